"""Training: two processes of one thread each share every step, as two slow cores are used best.

The optimizer keeps weights in f32. The model computes with these, and in the last part of the training with what they become
in the exported files: experts in MXFP4, all else in BF16. Gradients pass the rounding unchanged.
"""

import datetime
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from . import data, mxfp4
from .model import Model
from .vocabulary import Vocabulary

ROWS, ROWS_AT_ONCE = 6, 2  # of a process, in a step
WARMUP = 60  # steps
ROUNDED = 0.35  # the last part of all steps
# At the beginning. With higher ones the noise of such small batches hides all that takes more than one layer to compute.
MUON_RATE, ADAM_RATE, EMBEDDING_RATE = 0.01, 2e-3, 1e-3
EVENNESS = 0.01
COPIES, COPY_STEPS = 0.3, 600  # share of the rows, in the first steps
BRIEFS, BRIEF_STEPS = 0.35, 2400
LATES, LATE_STEPS, LATE_RATE = 0.6, 350, 0.3  # in the last steps, which begin anew at this rate


def is_matrix(name):
    return "layers" in name and name.rsplit(".", 1)[-1] in ("weight", "gate_up", "down") and "router" not in name


def orthogonal(update):
    """Newton-Schulz iterations of Muon: singular values become about 1."""
    x = update / (update.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).bfloat16()
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Muon for matrices, Adam for the rest. Each process computes the updates of a part of the matrices."""

    def __init__(self, model, rank, world):
        self.parameters = dict(model.named_parameters())
        self.masters = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.first = {name: torch.zeros_like(p) for name, p in self.masters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in self.masters.items() if not is_matrix(name)}
        self.rank, self.world = rank, world

    def state(self):
        return {"masters": self.masters, "first": self.first, "second": self.second}

    def load(self, state):
        self.masters, self.first, self.second = state["masters"], state["first"], state["second"]

    def show(self, rounding):
        """Gives the model the weights to compute with."""
        for name, p in self.parameters.items():
            p.data.copy_(round_weight(name, self.masters[name]) if rounding else self.masters[name])

    def gradients(self, weight):
        """Sums the gradients of the processes, each times its weight."""
        flat = torch.cat([p.grad.flatten() for p in self.parameters.values()])
        flat *= weight
        dist.all_reduce(flat)
        flat *= min(1.0, 1.0 / (flat.norm().item() + 1e-6))
        places = flat.split([p.numel() for p in self.parameters.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.parameters.items(), places)}

    @torch.no_grad()
    def step(self, gradients, step, scale):
        updates = {}
        for index, (name, gradient) in enumerate(gradients.items()):
            if is_matrix(name):
                momentum = self.first[name].lerp_(gradient, 0.05)
                updates[name] = torch.zeros_like(momentum)
                if index % self.world == self.rank:
                    direction = gradient.lerp(momentum, 0.95)
                    if name.endswith("gate_up"):
                        direction = direction.unflatten(1, (2, -1))
                    rows, columns = direction.shape[-2:]
                    updates[name] = orthogonal(direction).reshape(momentum.shape) * max(1, rows / columns) ** 0.5
        flat = torch.cat([update.flatten() for update in updates.values()])
        dist.all_reduce(flat)
        for name, part in zip(updates, flat.split([update.numel() for update in updates.values()])):
            master = self.masters[name]
            master.mul_(1 - 0.02 * MUON_RATE * scale).sub_(part.view_as(master), alpha=MUON_RATE * scale)
        for name, second in self.second.items():
            gradient, first = gradients[name], self.first[name]
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.05)
            update = first / (1 - 0.9**step) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
            self.masters[name].sub_(update, alpha=scale * (EMBEDDING_RATE if name == "embedding.weight" else ADAM_RATE))


def round_weight(name, weight):
    """As the exported files hold it."""
    if name.endswith(("gate_up", "down")):
        return mxfp4.rounded(weight)
    return weight.bfloat16().float()


def rate(step, steps):
    """Up, and down to nothing; and for what is learned last down to nothing once more."""
    if step >= steps:
        return LATE_RATE * (1 - (step - steps) / LATE_STEPS)
    return min((step + 1) / WARMUP, 1 - step / steps)


def masks(positions, groups, window):
    """Which token sees which, in full and in sliding layers. [rows, 1, tokens, tokens]"""
    count = positions.shape[1]
    behind = torch.ones(count, count, dtype=torch.bool).tril()
    full = behind & ((groups[:, None, :] == groups[:, :, None]) | (groups[:, None, :] == 0))
    near = positions[:, :, None] - positions[:, None, :] < window
    return full[:, None], (full & near)[:, None]


def loss_of(forward, model, rows):
    """The mean loss of the tokens that the model is to write, and how many."""
    tokens, positions, groups, learned = (torch.from_numpy(column.astype(np.int64)) for column in rows)
    hidden, unevenness = forward(tokens, positions, *masks(positions, groups, model.config.window))
    targets = tokens[:, 1:][learned[:, 1:] == 1]
    logits = model.unembedding(hidden[:, :-1][learned[:, 1:] == 1]).float()
    return F.cross_entropy(logits, targets), unevenness, len(targets)


def work(rank, world, folder, config, vocabulary, steps, seed):
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world,
                            timeout=datetime.timedelta(days=2))
    model = Model(config)
    optimizer = Optimizer(model, rank, world)
    saved, begin, seconds = folder / "state.pt", 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        optimizer.load(state["optimizer"])
        begin, seconds = state["step"], state["seconds"]
    forward = torch.compile(model) if os.environ.get("COMPILE", "1") == "1" else model
    log = (folder / "log.jsonl").open("a") if rank == 0 else None
    clock = time.process_time()
    for step in range(begin, steps + LATE_STEPS):
        copies, briefs, lates = COPIES * (step < COPY_STEPS), BRIEFS * (step < BRIEF_STEPS), LATES * (step >= steps)
        rows = data.rows(f"{seed} {step} {rank}", ROWS, vocabulary, copies, briefs, lates)
        rounding = step >= (1 - ROUNDED) * steps
        optimizer.show(rounding)
        model.zero_grad()
        losses, count = 0.0, 0
        for part in range(0, ROWS, ROWS_AT_ONCE):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss, unevenness, tokens = loss_of(forward, model, [column[part : part + ROWS_AT_ONCE] for column in rows])
            ((loss + EVENNESS * unevenness) * tokens).backward()
            losses, count = losses + loss.item() * tokens, count + tokens
        total = torch.tensor([losses, float(count)])
        dist.all_reduce(total)
        gradients = optimizer.gradients(1 / total[1].item())
        optimizer.step(gradients, step + 1, rate(step, steps))
        if rank == 0:
            spent = seconds + time.process_time() - clock
            entry = {"step": step, "loss": round(total[0].item() / total[1].item(), 5), "tokens": int(total[1]),
                     "unevenness": round(unevenness.item(), 4), "rate": round(rate(step, steps), 4), "rounding": rounding,
                     "cpu_seconds": round(spent, 1)}
            print(json.dumps(entry), file=log, flush=True)
            if (step + 1) % 25 == 0 or step + 1 == steps + LATE_STEPS:
                state = {"optimizer": optimizer.state(), "step": step + 1, "seconds": spent}
                torch.save(state, folder / "state.new")
                os.replace(folder / "state.new", saved)
    dist.destroy_process_group()


def load(folder, config):
    """The trained model, with the weights of the exported files."""
    model = Model(config)
    masters = torch.load(Path(folder) / "state.pt", weights_only=True)["optimizer"]["masters"]
    for name, p in model.named_parameters():
        p.data.copy_(round_weight(name, masters[name]))
    return model


def run(folder, config, vocabulary: Vocabulary, steps, seed, world=2):
    (folder / "meeting").unlink(missing_ok=True)
    torch.multiprocessing.spawn(work, (world, folder, config, vocabulary, steps, seed), nprocs=world)

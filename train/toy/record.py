"""What is committed about a training: the loss as a picture, and the scores."""

import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MARK = "<!-- scores -->"


def entries(log):
    """The last entry of each step: a run that was taken up again repeats some."""
    return list({entry["step"]: entry for entry in map(json.loads, log.read_text().splitlines())}.values())


def draw(log, picture):
    steps = entries(log)
    figure, axes = plt.subplots(figsize=(7, 3.5))
    axes.plot([entry["step"] for entry in steps], [entry["loss"] for entry in steps], linewidth=0.8)
    rounding = [entry["step"] for entry in steps if entry["rounding"]]
    if rounding:
        axes.axvspan(rounding[0], rounding[-1], alpha=0.1)
        axes.text(rounding[0], axes.get_ylim()[1] * 0.5, " weights rounded to MXFP4 and BF16", fontsize=8)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("nats a token that the model writes")
    figure.tight_layout()
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def summary(log):
    steps = entries(log)
    last = steps[-20:]
    return {"steps": len(steps), "tokens learned": sum(entry["tokens"] for entry in steps),
            "loss of the last 20 steps": round(sum(entry["loss"] for entry in last) / len(last), 4),
            "processor seconds": round(2 * steps[-1]["cpu_seconds"])}


def put_scores(card, lines):
    """Replaces what stands between the marks in the model card."""
    before, _, after = card.read_text().split(MARK)
    card.write_text(MARK.join((before, "\n" + "\n".join(lines) + "\n", after)))

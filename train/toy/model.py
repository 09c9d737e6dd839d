"""gpt-oss in PyTorch, as small as it gets: the architecture of the published models, with other numbers."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocabulary: int
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    experts_per_token: int = 4
    intermediate: int = 128
    window: int = 128
    context: int = 4096
    rope_theta: float = 150000.0
    yarn_factor: float = 32.0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    original_context: int = 4096
    epsilon: float = 1e-5
    swiglu_limit: float = 7.0

    def to_dict(self):
        return asdict(self)


SWIGLU_GAIN = 1.702


def rope_frequencies(config):
    """The frequency of each pair of dimensions, with YaRN's ramp not rounded to whole pairs; and the concentration."""
    half = config.head_dim // 2
    pairs = torch.arange(half, dtype=torch.float64)
    extrapolated = config.rope_theta ** (-pairs / half)
    interpolated = extrapolated / config.yarn_factor

    def pair_that_turns(times):
        turns = config.original_context / (times * 2 * math.pi)
        return half * math.log(turns) / math.log(config.rope_theta)

    low, high = pair_that_turns(config.yarn_beta_fast), pair_that_turns(config.yarn_beta_slow)
    ramp = ((pairs - low) / (high - low)).clamp(0, 1)
    return (1 - ramp) * extrapolated + ramp * interpolated, 0.1 * math.log(config.yarn_factor) + 1


def rotate(x, cos, sin):
    """Pairs are dimensions i and i + half of a head."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Norm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(config.hidden))
        self.epsilon = config.epsilon

    def forward(self, x):
        return F.rms_norm(x.float(), self.gain.shape, self.gain, self.epsilon)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.config = config
        self.q = nn.Linear(config.hidden, width)
        self.k = nn.Linear(config.hidden, kv_width)
        self.v = nn.Linear(config.hidden, kv_width)
        self.out = nn.Linear(width, config.hidden)
        self.sinks = nn.Parameter(torch.zeros(config.heads))

    def forward(self, x, cos, sin, mask):
        config = self.config
        batch, tokens, _ = x.shape

        def heads(y, count):
            return y.view(batch, tokens, count, config.head_dim).transpose(1, 2)

        q = rotate(heads(self.q(x), config.heads), cos, sin)
        k = rotate(heads(self.k(x), config.kv_heads), cos, sin)
        v = heads(self.v(x), config.kv_heads)
        group = config.heads // config.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = (q @ k.transpose(-1, -2)).float() * config.head_dim**-0.5
        scores = scores.masked_fill(~mask, -1e30)
        # The sink is a score without a key or value: it only takes weight.
        sink = self.sinks.view(1, -1, 1, 1)
        most = torch.maximum(scores.amax(-1, keepdim=True), sink)
        weights = (scores - most).exp()
        weights = weights / (weights.sum(-1, keepdim=True) + (sink - most).exp())
        mixed = weights.to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class Experts(nn.Module):
    """The weights of all experts of a layer; gate and up apart, as in GGUF."""

    def __init__(self, config):
        super().__init__()
        count, hidden, inner = config.experts, config.hidden, config.intermediate
        self.config = config
        self.router = nn.Linear(hidden, count)
        self.gate_up = nn.Parameter(torch.randn(count, 2 * inner, hidden) / math.sqrt(hidden))
        self.gate_up_bias = nn.Parameter(torch.zeros(count, 2 * inner))
        self.down = nn.Parameter(torch.randn(count, hidden, inner) / math.sqrt(inner) / 4)
        self.down_bias = nn.Parameter(torch.zeros(count, hidden))

    def forward(self, x):
        """All experts are computed for all tokens, and those not chosen get a share of 0: on a CPU that is faster than to
        gather the tokens of each, since it makes two large products of many small ones."""
        config = self.config
        scores = self.router(x)
        chosen, _ = scores.topk(config.experts_per_token, dim=-1)
        shares = scores.masked_fill(scores < chosen[..., -1:], -torch.inf).softmax(dim=-1)
        h = F.linear(x, self.gate_up.flatten(0, 1), self.gate_up_bias.flatten())
        gate, up = h.unflatten(-1, (config.experts, 2, config.intermediate)).unbind(-2)
        a = swiglu(gate, up, config.swiglu_limit) * shares[..., None]
        down = self.down.transpose(0, 1).flatten(1)
        return F.linear(a.flatten(-2), down) + shares @ self.down_bias, shares


def swiglu(gate, up, limit):
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(SWIGLU_GAIN * gate) * (up + 1)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention_norm, self.attention = Norm(config), Attention(config)
        self.experts_norm, self.experts = Norm(config), Experts(config)

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        mixed, shares = self.experts(self.experts_norm(x))
        return x + mixed, shares


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        nn.init.normal_(self.embedding.weight, std=0.2)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config)
        nn.init.constant_(self.norm.gain, 0.3)
        # One matrix, exported twice: whoever can copy one word can then copy any.
        self.unembedding = nn.Linear(config.hidden, config.vocabulary, bias=False)
        self.unembedding.weight = self.embedding.weight
        self.begin_with_copying()

    @torch.no_grad()
    def begin_with_copying(self):
        """Two layers begin as what training finds late, and so everything that copies is found soon: each head of the first layer
        looks at a token before, one, two, three or four back, and a head of each group in the second at what followed the same tokens
        earlier, and writes it. That of the first group compares one, those of the others as many as are looked at: where every digit
        is a token, fewer do not tell one number of a list from the others."""
        config = self.config
        frequencies, _ = rope_frequencies(config)
        half, size, group = config.head_dim // 2, config.head_dim, config.heads // config.kv_heads
        # Dimensions that hardly turn within the context are for what is compared, the fastest for where it stands.
        steady = (frequencies < 1 / config.original_context).nonzero().flatten()
        steady = torch.cat((steady, steady + half))
        count = len(steady)
        fast = torch.cat((torch.arange(4), torch.arange(4) + half))
        here = torch.tensor([10.0] * 4 + [0.0] * 4)
        kept = nn.init.orthogonal_(torch.empty(count, config.hidden))
        written = nn.init.orthogonal_(torch.empty(config.heads * count, config.hidden)).split(count)
        before, same = self.layers[0].attention, self.layers[1].attention
        for head in range(config.heads):
            queries, shared = (slice(index * size, (index + 1) * size) for index in (head, head // group))
            angles = -(head + 1) * frequencies[:4]
            behind = 10 * torch.cat((torch.cos(angles), torch.sin(angles))).float()
            for linear, rows, bias in ((before.q, queries, behind), (before.k, shared, here)):
                linear.weight[rows] *= 0.1
                linear.bias[rows] = 0
                linear.bias[rows][fast] = bias
            before.v.weight[shared] = 0
            before.v.weight[shared][:count] = kept
            before.out.weight[:, queries] = 0
            before.out.weight[:, queries][:, :count] = 0.2 * written[head].T
        for kv_head, compared in enumerate([1] + [config.heads] * (config.kv_heads - 1)):
            queries, shared = (slice(index * size, (index + 1) * size) for index in (kv_head * group, kv_head))
            copied = nn.init.orthogonal_(torch.empty(size, config.hidden))
            same.q.weight[queries] = 0
            same.k.weight[shared] = 0
            for back, looked_for in enumerate([kept, *written][:compared]):
                part = torch.arange(back, count, compared)
                same.q.weight[queries.start + steady[part]] = 2 * looked_for[part]
                same.k.weight[shared.start + steady[part]] = 2 * written[back][part]
            same.v.weight[shared] = copied
            same.out.weight[:, queries] = 2 * copied.T

    def forward(self, tokens, positions, full, window):
        """What the unembedding takes; and how unevenly the experts were used, 1 being even. `full` and `window` say which
        token sees which: [batch, 1, tokens, tokens]."""
        frequencies, concentration = rope_frequencies(self.config)
        angles = positions[:, None, :, None].float() * frequencies.float()
        cos, sin = angles.cos() * concentration, angles.sin() * concentration
        x = self.embedding(tokens)
        unevenness = 0
        for index, layer in enumerate(self.layers):
            x, shares = layer(x, cos, sin, window if index % 2 == 0 else full)
            unevenness += shares.float().mean(dim=(0, 1)).square().sum() * self.config.experts
        return self.norm(x), unevenness / self.config.layers

"""Small networks that the tests share, and the spec that most of them use."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.schedules import Gradient, ScheduleSpec

SPEC = """
version: 1
binarize: {weights: true, activations: true, keep_float: [first, last, downsample]}
gradient: {frozen: none}
progression: {order: forward, curve: {kind: power, exponent: 3}, refresh: {rate: 4}, warmup: 0, tail: 0}
seed: 0
"""


def spec(**edits: object) -> ScheduleSpec:
    """The spec above, with fields replaced; `__` in a name stands for a dot."""
    return fl.edit_spec(fl.read_spec(SPEC), {name.replace("__", "."): value for name, value in edits.items()})


def chain(layers: int = 4, width: int = 6) -> nn.Module:
    """Convolutions in a chain, then a classifier: `[n, 3, 8, 8]` to `[n, 5]`."""
    units: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Hardtanh()]
    for _ in range(layers):
        units += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Hardtanh()]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Attention(nn.Module):
    """Three projections of one activation, and a fourth: `[n, tokens, width]` to `[n, tokens, width]`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.q(x), self.k(x), self.v(x)
        mixed = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
        return self.head(self.out(mixed))


class Tied(nn.Module):
    """One weight used twice, under two names, and a module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.a = nn.Linear(8, 8, bias=False)
        self.b = nn.Linear(8, 8, bias=False)
        self.b.weight = self.a.weight
        self.twice = nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.b(torch.tanh(self.a(x))))
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.last(x)


class Branching(nn.Module):
    """Python control flow on a value, which no tracer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        if x.sum() > 0:
            x = -x
        return x


class Moody(nn.Module):
    """A flag that the minimal tracer would bake in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * 2 if self.training else self.linear(x)


class Spare(nn.Module):
    """A parameter and a buffer that its forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.randn(3))
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.c = nn.Linear(4, 2)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("cache", torch.ones(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(functional.hardtanh(self.b(functional.hardtanh(self.a(x)))))


class InPlace(nn.Module):
    """An activation that changes between its definition and its use."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        h.mul_(0.01)
        return self.c(torch.tanh(self.b(h)))


class Scaled(nn.Module):
    """A learned factor after each convolution, which a runtime would like to fold into the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(3))
        self.alpha = nn.Parameter(torch.rand(8, 1, 1) * 0.1 + 0.01)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in self.conv:
            x = functional.hardtanh(conv(x) * self.alpha)
        return self.head(x.mean((2, 3)))


class Embedded(nn.Module):
    """A classifier that shares its weight with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.norm(self.embedding(tokens)))))


class Positive(nn.Module):
    """Probabilities and a ReLU that meet weights: `[n, tokens, width]`, for as many tokens as it is made for.

    Of the two branches after `embed` the one through `up` and `down` is longer, and registered first.
    """

    def __init__(self, tokens: int = 3, width: int = 8) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.embed = nn.Linear(width, width)
        self.short = nn.Linear(width, width)
        self.mix = nn.Linear(tokens, tokens)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        probabilities = torch.softmax(2 * x @ x.transpose(-2, -1), -1)
        long = self.down(torch.relu(self.up(x))) + self.mix(probabilities) @ x
        return self.head(long + self.short(x))


def positive_chain(layers: int = 3, width: int = 6) -> nn.Module:
    """Convolutions with ReLU, of any height and width: `[n, 3, h, w]` to `[n, 5]`."""
    units: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    for stride in range(1, layers + 1):
        units += [nn.Conv2d(width, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


ZERO_ONE = [{"sites": "*.activation", "levels": [0, 1]}]
"""Overrides that turn every activation into 0 and 1."""


class Recurrent(nn.Module):
    """An LSTM between two linear layers, a ReLU before the last, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        x, _ = self.lstm(self.embed(x) * scale)
        x = functional.dropout(x, 0.5, self.training)
        return self.head(torch.relu(x))


class Drawing(nn.Linear):
    """Draws random numbers that no graph would draw again."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * random.choice([1.0, 1.0])  # noqa: S311


class LayerDrop(nn.Module):
    """In train mode a layer is left out by the value of a random tensor; eval mode is one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or bool(torch.rand([]) < 0.9):
                x = torch.tanh(block(x))
        return self.head(x)


def gradient_of(frozen: object, tail: object = None) -> Gradient:
    """The gradient that a spec's words say."""
    return Gradient.model_validate({"frozen": frozen, "tail": tail})


class Choosing(nn.Module):
    """A branch on a value between submodules, `[n, 3, h, w]` to `[n, 5]`: these are captured, the whole is not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.near, self.far = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.near(x) if float(x.detach().abs().mean()) < 1e6 else self.far(x)
        return self.head(x.mean((2, 3)))

"""Buffers, counters and caches that forward reads and changes."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class Counter(nn.Module):
    """A number buffer without dimensions, counted up in place while training."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.body(x)


class CounterRead(nn.Module):
    """A counter that also scales the output: its value must not be baked."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("steps", torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps.add_(1)
        return self.body(x) * torch.clamp(self.steps / 10, max=1.0)


class CounterInPython(nn.Module):
    """A Python number on the module is counted up: only regions that do not see it can be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.body(x) * min(1.0, 0.1 * (1 + self.steps))


class RunningMeanInPlace(nn.Module):
    """An exponential average changed in place, without gradients."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.mean


class RunningMeanReassigned(nn.Module):
    """The same average, but the buffer is replaced by a new tensor."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return x - self.mean


class RunningMaximumCopied(nn.Module):
    """A buffer overwritten with copy_, in evaluation mode too."""

    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        self.largest.copy_(torch.maximum(self.largest, x.detach().abs().max()))
        return x / self.largest


class InitialisedByData(nn.Module):
    """The first training batch sets the parameters, guarded by a flag in a buffer (ActNorm)."""

    initialised: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.shift = nn.Parameter(torch.zeros(8))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.training and not self.initialised:
            self.shift.data.copy_(-x.mean(0))
            self.initialised.fill_(True)
        return x + self.shift


class MemoryQueue(nn.Module):
    """New keys push the oldest out of a buffer (MoCo)."""

    queue: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.register_buffer("queue", F.normalize(torch.randn(16, 8), dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        keys = F.normalize(self.body(x), dim=-1)
        logits = keys @ self.queue.clone().T
        if self.training:
            self.queue.copy_(torch.cat([keys.detach(), self.queue])[: self.queue.size(0)])
        return logits


class Codebook(nn.Module):
    """The nearest entry of a codebook, straight through; the codebook follows by averages (VQ-VAE)."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 8)
        self.decode = nn.Linear(8, 12)
        self.register_buffer("codes", torch.randn(6, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.encode(x)
        chosen = torch.cdist(x, self.codes).argmin(-1)
        nearest = F.embedding(chosen, self.codes)
        if self.training:
            members = F.one_hot(chosen, self.codes.size(0)).to(x.dtype)
            means = members.T @ x.detach() / members.sum(0).clamp(min=1).unsqueeze(-1)
            self.codes.lerp_(means, 0.01)
        return self.decode(x + (nearest - x).detach()), chosen


class KeyCache(nn.Module):
    """Keys are written into a slice of a buffer before it is read (decoding)."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(12, 8)
        self.query = nn.Linear(12, 8)
        self.register_buffer("cache", torch.zeros(4, 16, 8), persistent=False)

    def forward(self, x: Tensor, start: int) -> Tensor:
        batch, length, _ = x.shape
        self.cache = self.cache.detach().clone()
        self.cache[:batch, start : start + length] = self.key(x)
        return self.query(x) @ self.cache[:batch, : start + length].transpose(1, 2)


class CachedOnFirstCall(nn.Module):
    """A table is made in the first forward and kept as a plain attribute: a stand-in tensor may end up in it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.positions: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.positions is None or self.positions.size(0) < x.size(1):
            self.positions = torch.linspace(0, 1, x.size(1), device=x.device).unsqueeze(-1)
        return self.body(x + self.positions[: x.size(1)])


class LengthOnlyGrows(nn.Module):
    """A buffer that is made again when the sequence is longer than any before (rotary tables)."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.register_buffer("table", torch.arange(4.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) > self.table.size(0):
            self.table = torch.arange(float(x.size(1)), device=x.device)
        return self.body(x * torch.cos(self.table[: x.size(1), None]))


@lru_cache(maxsize=4)
def causal_mask(length: int) -> Tensor:
    """True above the diagonal."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


class CachedByLruCache(nn.Module):
    """A mask is cached by a function outside every module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.transpose(1, 2)
        scores = scores.masked_fill(causal_mask(x.size(1)), -torch.inf)
        return self.body(scores.softmax(-1) @ x)


class RemembersLastFeatures(nn.Module):
    """Forward leaves an activation on the module for the user to read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)
        self.features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.features = torch.relu(self.body(x))
        return self.head(self.features)


class PenaltyCollected(nn.Module):
    """Blocks append their penalty to a list that the root empties and sums (mixtures of experts)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.penalties: list[Tensor] = []

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        self.penalties.clear()
        x = self.embed(numbers)
        for block in self.blocks:
            x = torch.relu(block(x))
            self.penalties.append(x.square().mean())
        return x, torch.stack(self.penalties).sum()


ENTRIES = [
    corner(Counter, (2, 12)),
    corner(CounterRead, (2, 12)),
    corner(CounterInPython, (2, 12)),
    corner(RunningMeanInPlace, (2, 12)),
    corner(RunningMeanReassigned, (2, 12)),
    corner(RunningMaximumCopied, (2, 12)),
    corner(InitialisedByData, (2, 12)),
    corner(MemoryQueue, (2, 12)),
    corner(Codebook, (2, 12)),
    corner(KeyCache, (2, 5, 12), 3),
    corner(CachedOnFirstCall, (2, 5, 12)),
    corner(LengthOnlyGrows, (2, 7, 12)),
    corner(CachedByLruCache, (2, 5, 12)),
    corner(RemembersLastFeatures, (2, 12)),
    corner(PenaltyCollected, tokens(2, 5)),
]

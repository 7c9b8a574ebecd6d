"""Python repeats operations: over sizes, parts, examples, until a value is reached."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class LoopUntilSettled(nn.Module):
    """A fixed-point iteration whose length depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(8, 8)
        self.inject = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inject(x)
        z = torch.zeros_like(x)
        for _ in range(20):
            following = torch.tanh(0.5 * self.step(z) + x)
            if (following - z).norm() < 1e-2:
                break
            z = following
        return z


class EarlyExit(nn.Module):
    """In evaluation the model stops as soon as every example is confident."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(12, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        logits = x
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = torch.relu(block(x))
            logits = head(x)
            if not self.training and bool((logits.softmax(-1).amax(-1) > 0.35).all()):
                break
        return logits


class LoopOverLength(nn.Module):
    """A Python loop over the time steps, with a state carried along."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(20, 8)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.size(0), 8)
        states = []
        for step in range(x.size(1)):
            state = torch.tanh(self.mix(torch.cat([x[:, step], state], dim=-1)))
            states.append(state)
        return torch.stack(states, dim=1)


class LoopOverUnbind(nn.Module):
    """Iterates over the result of unbind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.body(step).relu() for step in x.unbind(1)], dim=1)


class LoopOverChunks(nn.Module):
    """Feeds each chunk of the channels to a layer of its own, adding the result before (Res2Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = x.chunk(4, dim=1)
        outputs = [first]
        for chunk, conv in zip(rest, self.convs, strict=True):
            outputs.append(conv(chunk + outputs[-1]))
        return torch.cat(outputs, dim=1)


class LoopOverBatch(nn.Module):
    """Iterates over the examples themselves: the trip count is the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.body(row) / row.norm() for row in x])


class YieldsFeatures(nn.Module):
    """The features come from a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, 3, stride=2, padding=1) for channels in (3, 8, 8))

    def features(self, x: Tensor) -> Iterator[Tensor]:
        for conv in self.convs:
            x = torch.relu(conv(x))
            yield x

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([feature.mean((2, 3)) for feature in self.features(x)], dim=1)


class Recursive(nn.Module):
    """Each level calls the next one inside itself (U-Net)."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.inner = Recursive(depth - 1) if depth else None
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.down(x))
        if self.inner is not None:
            y = self.inner(y)
        return x + self.up(y)


ENTRIES = [
    corner(LoopUntilSettled, (2, 12)),
    corner(EarlyExit, (2, 12)),
    corner(LoopOverLength, (2, 5, 12)),
    corner(LoopOverUnbind, (2, 5, 12)),
    corner(LoopOverChunks, (2, 16, 6, 6)),
    corner(LoopOverBatch, (2, 12)),
    corner(YieldsFeatures, (2, 3, 16, 16)),
    corner(Recursive, (2, 4, 16, 16)),
]

"""Numbers are drawn in forward: by torch, by a module, by Python."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drops whole examples and scales the others."""
    if rate == 0.0 or not training:
        return x
    keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * keep.div_(1 - rate)


class DropPath(nn.Module):
    """Stochastic depth as a module."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.rate, self.training)


class StochasticDepth(nn.Module):
    """Residual branches dropped per example; the first rate is zero, so its module is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
        self.drops = nn.ModuleList(DropPath(rate) for rate in (0.0, 0.1, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        for block, drop in zip(self.blocks, self.drops, strict=True):
            x = x + drop(torch.relu(block(x)))
        return x


class DropsLayersByPython(nn.Module):
    """LayerDrop: Python's own random numbers choose the blocks of each training step, so no one graph holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if self.training and random.random() < 0.5:  # noqa: S311
                continue
            x = x + block(x)
        return self.head(x)


class DropsLayersByTorch(nn.Module):
    """LayerDrop with torch's random numbers, read into Python (Wav2Vec2)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or torch.rand([]).item() >= 0.5:
                x = x + block(x)
        return self.head(x)


class FunctionalDropout(nn.Module):
    """The mode is an argument of a function, not a module's flag."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.body(x), p=0.3, training=self.training, inplace=True)
        return self.head(F.dropout(x, 0.2, self.training))


class DropoutAlwaysOn(nn.Module):
    """Monte-Carlo dropout: noise in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        samples = [self.head(F.dropout(self.body(x), p=0.3)) for _ in range(3)]
        return torch.stack(samples).mean(0)


class VariationalBottleneck(nn.Module):
    """A sample by reparametrisation while training, the mean otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 8)
        self.decode = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encode(x).chunk(2, dim=-1)
        sample = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).rsample() if self.training else mean
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return self.decode(sample), divergence


class GumbelChoice(nn.Module):
    """A hard Gumbel-softmax, straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(12, 4)
        self.choices = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        choice = F.gumbel_softmax(self.score(x), tau=0.5, hard=True)
        return choice @ self.choices


class MasksRandomPatches(nn.Module):
    """A masked autoencoder: shuffles the patches by the rank of noise and keeps a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 16)
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = patches.shape
        kept = torch.rand(batch, length, device=patches.device).argsort(dim=1)[:, : length // 4]
        x = self.embed(patches)
        x = torch.gather(x, 1, kept.unsqueeze(-1).expand(-1, -1, x.size(-1)))
        return self.block(x), kept


class MixesExamples(nn.Module):
    """Mixup in the hidden space: a random permutation of the batch while training."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        if self.training:
            x = 0.7 * x + 0.3 * x[torch.randperm(x.size(0), device=x.device)]
        return self.head(x)


ENTRIES = [
    corner(StochasticDepth, (2, 12)),
    corner(DropsLayersByPython, (2, 12)),
    corner(DropsLayersByTorch, (2, 12)),
    corner(FunctionalDropout, (2, 12)),
    corner(DropoutAlwaysOn, (2, 12)),
    corner(VariationalBottleneck, (2, 12)),
    corner(GumbelChoice, (2, 12)),
    corner(MasksRandomPatches, (2, 16, 12)),
    corner(MixesExamples, (2, 12)),
]

"""Batch normalisation in every form that users write, and other norms."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class BatchNormAct(nn.BatchNorm2d):
    """A batch norm with its activation inside (timm)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.02)
        self.act = nn.ReLU(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class BatchNormByHand(nn.BatchNorm1d):
    """A batch norm whose forward is written out, with the mode read from the flag."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            mean, variance = input.mean(0), input.var(0, unbiased=False)
            with torch.no_grad():
                self.get_buffer("running_mean").lerp_(mean, 0.1)
                self.get_buffer("running_var").lerp_(variance, 0.1)
                self.get_buffer("num_batches_tracked").add_(1)
        else:
            mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return (input - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


class FrozenByBuffers(nn.Module):
    """A norm whose weight and statistics are all buffers (detection)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(channels) + 0.5)
        self.register_buffer("shift", torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


class BatchNormSubclasses(nn.Module):
    """Subclasses of BatchNorm with a forward of their own, and statistics to be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = BatchNormAct(8)
        self.head = nn.Linear(8, 6)
        self.last = BatchNormByHand(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.head(self.norm(self.conv(x)).mean((2, 3))))


class FrozenBatchNorm(nn.Module):
    """train() is overridden so that batch norms stay in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(8, 8, 3))
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class FrozenAsBuffers(nn.Module):
    """Norms without parameters between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), FrozenByBuffers(8), nn.ReLU(), nn.Conv2d(8, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class FunctionalBatchNorm(nn.Module):
    """F.batch_norm with the mode as an argument and the statistics of the root."""

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.weight = nn.Parameter(torch.ones(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("variance", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.batch_norm(x, self.mean, self.variance, self.weight, training=self.training, momentum=0.2)


class StatisticsOfEachBatch(nn.Module):
    """Batch norms without running statistics, without parameters, with a cumulative average."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8, 8))
        self.norms = nn.ModuleList(
            [
                nn.BatchNorm2d(8, track_running_stats=False),
                nn.BatchNorm2d(8, affine=False),
                nn.BatchNorm2d(8, momentum=None),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return x


class NormShared(nn.Module):
    """One batch norm is used twice in a step: its statistics move twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(torch.relu(self.norm(self.first(x)))))


class NormPerDomain(nn.Module):
    """The batch is parted and each half has a norm of its own (AdvProp)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.clean = nn.BatchNorm2d(8)
        self.attacked = nn.BatchNorm2d(8)

    def forward(self, clean: Tensor, attacked: Tensor) -> Tensor:
        x = self.conv(torch.cat([clean, attacked]))
        if not self.training:
            return self.clean(x)
        left, right = x.split([len(clean), len(attacked)])
        return torch.cat([self.clean(left), self.attacked(right)])


class AdaptiveInstanceNorm(nn.Module):
    """Scale and shift come from another input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.InstanceNorm2d(8)
        self.style = nn.Linear(6, 16)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.style(style)[..., None, None].chunk(2, dim=1)
        return (1 + scale) * self.norm(self.conv(x)) + shift


class RootMeanSquareNorm(nn.Module):
    """Root mean square norms: torch's, and one in float32 whatever the input is (Llama)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(12)
        self.weight = nn.Parameter(torch.ones(12))
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.norm(x))
        full = x.to(torch.float32)
        full = full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * full.to(x.dtype)


class ResponseNorms(nn.Module):
    """Norms over channels and over space that hold no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.local = nn.LocalResponseNorm(3)
        self.group = nn.GroupNorm(2, 8)
        self.gamma = nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.local(self.conv(x)))
        response = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * response / (response.mean(1, keepdim=True) + 1e-6)) + x


ENTRIES = [
    corner(BatchNormSubclasses, (2, 3, 8, 8)),
    corner(FrozenBatchNorm, (2, 3, 8, 8)),
    corner(FrozenAsBuffers, (2, 3, 8, 8)),
    corner(FunctionalBatchNorm, (2, 3, 8, 8)),
    corner(StatisticsOfEachBatch, (2, 3, 8, 8)),
    corner(NormShared, (2, 3, 8, 8)),
    corner(NormPerDomain, (2, 3, 8, 8), (2, 3, 8, 8)),
    corner(AdaptiveInstanceNorm, (2, 3, 8, 8), (2, 6)),
    corner(RootMeanSquareNorm, (2, 5, 12)),
    corner(ResponseNorms, (2, 3, 8, 8)),
]

"""What the networks are made of: convolutions, the stem, and shortcuts without weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LARGE = 64
"""Images of more pixels than this a side get ImageNet's stem, others CIFAR's."""


class Normalise(nn.Module):
    """(x - mean) / std, channel by channel: a network brings its own, so that all read pixels in 0..1."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps height and width but for its stride, without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Stem(nn.Sequential):
    """One 3x3 convolution for small images; for large ones 7x7 and a pooling, which leave a quarter of each side."""

    def __init__(self, width: int, size: int) -> None:
        if size > LARGE:
            super().__init__(convolution(3, width, 7, 2), nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1))
        else:
            super().__init__(convolution(3, width, 3), nn.BatchNorm2d(width))


class Fit(nn.Module):
    """A shortcut without weights: 2x2 means for a stride of 2, means of neighbouring channels for fewer of them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.outputs, self.ratio = outputs, inputs // outputs
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        return x if self.ratio == 1 else x.unflatten(1, (self.outputs, self.ratio)).mean(2)

"""Networks of sixteen binary 3x3 convolutions for 8x8 digits: a plain chain, and residual blocks of two."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Unit(nn.Sequential):
    """Convolution, BatchNorm, and a nonlinearity that agrees with sign at both ends."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.Hardtanh())


class Block(nn.Module):
    """Two units, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.hardtanh(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y)) + self.downsample(x)


def _whole(width: int, body: list[nn.Module]) -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))
    return nn.Sequential(OrderedDict(stem=stem, body=nn.Sequential(*body), head=head))


def plain(width: int = 12, depth: int = 16) -> nn.Module:
    """A chain of units: the first half of one width, the second of twice that, at half the resolution."""
    half = depth // 2
    body: list[nn.Module] = [Unit(width, width) for _ in range(half)]
    body += [Unit(width, 2 * width, stride=2), *(Unit(2 * width, 2 * width) for _ in range(depth - half - 1))]
    return _whole(width, body)


def residual(width: int = 12, depth: int = 16) -> nn.Module:
    """The same convolutions in residual blocks of two."""
    half = depth // 4
    body: list[nn.Module] = [Block(width, width) for _ in range(half)]
    body += [Block(width, 2 * width, stride=2), *(Block(2 * width, 2 * width) for _ in range(depth // 2 - half - 1))]
    return _whole(width, body)

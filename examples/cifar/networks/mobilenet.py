"""MobileNetV2 (Sandler et al., arXiv 1801.04381), with Hardtanh in place of ReLU6: inverted residuals."""

from __future__ import annotations

from torch import Tensor, nn

from examples.cifar.networks.parts import LARGE, convolution

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, and the first block's stride for large images."""


class Unit(nn.Sequential):
    """Convolution, BatchNorm, Hardtanh."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(convolution(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs), nn.Hardtanh())


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, and a projection without nonlinearity; a shortcut where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Unit(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(width, width, 3, stride, groups=width)
        self.project = nn.Sequential(convolution(width, outputs, 1), nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """Images `[n, 3, size, size]` in 0..1 to `[n, classes]`. Small images are halved twice less: stem and stage 2."""

    def __init__(self, classes: int, size: int, normalise: nn.Module, width: float = 1.0) -> None:
        super().__init__()
        large = size > LARGE
        inputs, top = _channels(32, width), _channels(1280, width)
        self.normalise = normalise
        self.stem = Unit(3, inputs, 3, 2 if large else 1)
        blocks: list[nn.Module] = []
        for stage, (expansion, channels, count, first) in enumerate(STAGES):
            outputs = _channels(channels, width)
            for index in range(count):
                stride = first if index == 0 and (large or stage != 1) else 1
                blocks.append(InvertedResidual(inputs, outputs, stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.top = Unit(inputs, top, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(top, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.top(self.blocks(self.stem(self.normalise(x)))))


def _channels(channels: int, width: float) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, round(channels * width / 8) * 8)

"""MobileNetV2 (arXiv 1801.04381): inverted residuals with depthwise convolutions, `[n, 3, h, w]` to `[n, 1000]`."""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""Expansion, channels, blocks, stride of the first."""


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = nn.Sequential(*unit(inputs, width, 1) if expansion > 1 else [])
        self.depthwise = nn.Sequential(*unit(width, width, 3, stride, groups=width))
        self.project = nn.Sequential(*unit(width, outputs, 1)[:2])
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*unit(3, 32, 3, 2))
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride in _STAGES:
            for index in range(repeats):
                blocks.append(Block(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.top = nn.Sequential(*unit(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.top(self.blocks(self.stem(x))).mean((2, 3)))

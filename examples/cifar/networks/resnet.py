"""ResNet-18, 34 and 50 (He et al., arXiv 1512.03385) for binary convolutions, plain and Bi-Real.

What a convolution reads is `Hardtanh` of a sum of BatchNorms, which is centred, in place of ReLU, whose sign is always
+1. The shortcut itself is never clipped: it carries real values through the whole network, and its gradient.
Bi-Real (Liu et al., arXiv 1808.00278) adds such a shortcut around every single convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.cifar.networks.parts import Fit, Stem, convolution

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""The number of blocks in each of the four stages, by the depth that names the network."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; `every` puts a shortcut around each of them, else one goes around both."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, every: bool) -> None:
        super().__init__()
        self.every = every
        self.act = nn.Hardtanh()
        self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(self.act(x)))
        x = self.downsample(x)
        if self.every:
            x = y = y + x
        return self.bn2(self.conv2(self.act(y))) + x


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1 pixels; `every` adds what each of the first two reads to what it gives."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, every: bool) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.every = every
        self.act = nn.Hardtanh()
        self.conv1, self.bn1 = convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.around1, self.around2 = Fit(inputs, width), Fit(width, width, stride)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(self.act(x)))
        if self.every:
            y = y + self.around1(x)
        z = self.bn2(self.conv2(self.act(y)))
        if self.every:
            z = z + self.around2(y)
        return self.bn3(self.conv3(self.act(z))) + self.downsample(x)


class ResNet(nn.Module):
    """Images `[n, 3, size, size]` in 0..1 to `[n, classes]`; the first stage has `width` channels."""

    def __init__(
        self, depth: int, classes: int, size: int, normalise: nn.Module, width: int = 64, every: bool = False
    ) -> None:
        super().__init__()
        block = Bottleneck if depth >= 50 else BasicBlock
        widths = [width, *(block.expansion * (width << stage) for stage in range(4))]
        self.normalise = normalise
        self.stem = Stem(width, size)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                block(widths[stage], width << stage, 2 if stage else 1, every),
                *(block(widths[stage + 1], width << stage, 1, every) for _ in range(count - 1)),
            )
            for stage, count in enumerate(BLOCKS[depth])
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.normalise(x))
        return self.head(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

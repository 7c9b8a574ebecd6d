"""VGG-like chains without any shortcut (Simonyan and Zisserman, arXiv 1409.1556), pooled before BatchNorm.

The order convolution, pooling, BatchNorm, Hardtanh is that of BNN (Courbariaux et al., arXiv 1602.02830): what the next
convolution reads is then centred, and no maximum is taken of signs.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.cifar.networks.parts import Stem, convolution

STAGES = {7: (2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""The number of convolutions before each pooling, by the number of layers with weights."""


class VGG(nn.Module):
    """Images `[n, 3, size, size]` in 0..1 to `[n, classes]`; stages of 1, 2, 4, 8, 8 times `width` channels.

    The first convolution is the stem. In place of the fully connected layers stands the mean over all pixels.
    """

    def __init__(self, depth: int, classes: int, size: int, normalise: nn.Module, width: int = 64) -> None:
        super().__init__()
        self.normalise = normalise
        self.stem = nn.Sequential(Stem(width, size), nn.Hardtanh())
        body: list[nn.Module] = []
        inputs = width
        for stage, count in enumerate(STAGES[depth]):
            outputs = width << min(stage, 3)
            for index in range(1 if stage == 0 else 0, count):
                body += [convolution(inputs, outputs, 3)]
                body += [nn.MaxPool2d(2)] if index == count - 1 else []
                body += [nn.BatchNorm2d(outputs), nn.Hardtanh()]
                inputs = outputs
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(self.normalise(x))))

"""Networks in which something stands between the integers of one operation and the signs that the next reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(*after: nn.Module, kernel: int = 3, stride: int = 1, padding: int = 1, bias: bool = False) -> nn.Module:
    """A convolution of 4 channels to 8, what follows, and one more: `[n, 4, 9, 9]` to `[n, 2, h, w]`."""
    return nn.Sequential(nn.Conv2d(4, 8, kernel, stride, padding, bias=bias), *after, nn.Conv2d(8, 2, 1))


class Tokens(nn.Module):
    """Two linear layers with a factor for each of 8 features between them: `[n, tokens, 5]` to `[n, tokens, 2]`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 2)
        self.factor = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.factor * self.a(x) - 0.25))


class Residual(nn.Module):
    """Sums of integers: of two products, and of a product and what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(3))
        self.one, self.two = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.a(x) + self.b(x))
        x = functional.hardtanh(self.two(functional.max_pool2d(self.c(x), 2)))
        return self.head(x)


class Shortcut(nn.Module):
    """A block whose BatchNorm is read by the next operation and by the shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardtanh(self.one(self.a(x)), inplace=True)
        return self.head(self.two(self.b(x)) + x)


class Flattened(nn.Module):
    """Pooled after BatchNorm, then flattened: `[n, 4, 6, 6]` to `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.one = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(72, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu_(functional.max_pool2d(self.one(self.a(x)), 2)).flatten(1))


class Written(nn.Module):
    """Values that are changed in place after one reader, and before another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(4))
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.a(x))
        y = self.b(x * 1.0)
        x.add_(2)
        y = self.two(y + self.c(x))
        positive = functional.relu_(y)
        return self.head(y) + self.head(self.d(positive - 0.5))


class BiReal(nn.Module):
    """Blocks of a convolution and BatchNorm with a float shortcut around each: `[n, 4, 8, 8]` to `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)) + x
        return self.head(x.mean((2, 3)))


class Squared(nn.Module):
    """Neither rising nor falling."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x - 9.5


class ByPixel(nn.Module):
    """A constant for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(8, 9, 9))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class ByRow(nn.Module):
    """The rows as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(9)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class Kept(nn.BatchNorm2d):
    """Normalises by the batch whatever the mode, and so in eval mode."""

    def train(self, mode: bool = True) -> Kept:
        return super().train(True)


class Pooled(nn.Module):
    """Max poolings after one another, and two convolutions that read what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 40, 3, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(40), nn.Hardtanh()
        self.pools = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((1, 2), 1))
        self.b, self.c = nn.Conv2d(40, 3, 1, bias=False), nn.Conv2d(40, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pools(self.act(self.norm(self.a(x))))
        return self.b(x) - self.c(x)

"""Sizes as numbers: the batch, the length, and arithmetic on them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens

PIXEL_MEAN = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
FREQUENCIES = np.exp(np.arange(6, dtype=np.float32) * -0.7)


class BatchInReshape(nn.Module):
    """The batch is -1 here and its number there."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        y = self.body(x.reshape(batch * length, -1)).view(-1, length, 3, 4)
        return y.transpose(1, 2).reshape(batch, 3, length * 4)


class BatchAsPythonNumber(nn.Module):
    """int(), len() and arithmetic on the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        batch = int(x.shape[0])
        y = self.body(x.repeat(3, 1)).view(3, batch, 8)
        return y.sum(0) / len(x) + torch.ones(batch, 1, device=x.device) * (x.numel() // batch)


class LengthInScale(nn.Module):
    """Sizes enter as values: a square root, a logarithm, a mean by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x) / math.sqrt(x.size(-1))
        y = y * math.log(x.shape[1] + 1)
        return y.sum(1) / x.shape[1] + 1 / x.size(0)


class SizesAsTensor(nn.Module):
    """A size becomes a tensor (targets relative to the image)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        boxes = self.conv(image).amax((2, 3)).sigmoid()
        height, width = image.shape[-2:]
        return boxes * torch.tensor([width, height, width, height], device=image.device)


class PositionsByLength(nn.Module):
    """A slice of the learned positions as long as the sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.positions = nn.Parameter(torch.randn(16, 12))
        self.body = nn.Linear(12, 8)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.body(self.embed(numbers) + self.positions[: numbers.size(1)])


class PositionsByArange(nn.Module):
    """Position numbers from arange, expanded to the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.positions = nn.Embedding(16, 12)
        self.body = nn.Linear(12, 8)

    def forward(self, numbers: Tensor) -> Tensor:
        positions = torch.arange(numbers.size(1), device=numbers.device).unsqueeze(0).expand_as(numbers)
        return self.body(self.embed(numbers) + self.positions(positions))


class SineTable(nn.Module):
    """A table of sines and cosines made on the way and written with strides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.size(1), dtype=x.dtype, device=x.device).unsqueeze(1)
        rates = torch.exp(torch.arange(0, 12, 2, dtype=x.dtype) * (-math.log(10000.0) / 12))
        table = torch.zeros(x.size(1), 12)
        table[:, 0::2] = torch.sin(steps * rates)
        table[:, 1::2] = torch.cos(steps * rates)
        return self.body(x + table)


class Coordinates(nn.Module):
    """Channels with the coordinates of each pixel (CoordConv)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, x.size(2)), torch.linspace(-1, 1, x.size(3)), indexing="ij"
        )
        grid = torch.stack([rows, columns]).expand(x.size(0), -1, -1, -1).to(x)
        return self.conv(torch.cat([x, grid], dim=1))


class GlobalConstant(nn.Module):
    """A tensor of the file, owned by no module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv((image - PIXEL_MEAN.to(image)) / 0.25)


class NumpyConstant(nn.Module):
    """An array of numpy becomes a tensor in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        angles = x[..., :1] * torch.from_numpy(FREQUENCIES).to(x.device)
        return self.body(torch.cat([angles.sin(), angles.cos()], dim=-1) + np.sqrt(2.0).item() * x)


class ConstantsOfPython(nn.Module):
    """Lists of numbers become tensors: torch.tensor, new_tensor, full, eye."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.weights = [0.1, 0.2, 0.3, 0.4]

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x) * torch.tensor(self.weights) + x.new_tensor([1, 2, 3, 4])
        return y @ torch.eye(4, dtype=x.dtype) + torch.full((x.size(0), 1), 0.5)


class PermutesLikeEinops(nn.Module):
    """Space to depth by reshapes and permutations, then patches to rows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(-3)
        y = self.body(x)
        return y.unflatten(1, (h // 2, w // 2)).movedim(-1, 1).swapaxes(2, 3)


class Pyramid(nn.Module):
    """Sizes of one feature map decide those of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8 * (1 + 4 + 9), 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = F.interpolate(x, size=(x.size(2) * 2 - 1, x.size(3) * 2 - 1), mode="bilinear", align_corners=True)
        x = F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
        return self.head(torch.cat([F.adaptive_max_pool2d(x, size).flatten(1) for size in (1, 2, 3)], dim=1))


class PairsOfExamples(nn.Module):
    """Every example meets every other: the output has the batch in both dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(12, 8)
        self.text = nn.Linear(6, 8)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        logits = F.normalize(self.image(image), dim=-1) @ F.normalize(self.text(text), dim=-1).t()
        labels = torch.arange(logits.shape[0], device=logits.device)
        return logits, (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


class BatchFolded(nn.Module):
    """Two crops of each image go through the body as one batch and are parted again."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        both = self.body(torch.cat([first, second])).mean((2, 3))
        left, right = both.split(first.size(0))
        return left, right, torch.stack(both.chunk(2)).mean(0)


class MinibatchDeviation(nn.Module):
    """A statistic over groups of the batch becomes a channel (GAN discriminators)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x.var(0, unbiased=False) + 1e-6).sqrt().mean()
        return self.conv(torch.cat([x, deviation.expand(x.size(0), 1, *x.shape[2:])], dim=1))


ENTRIES = [
    corner(BatchInReshape, (2, 5, 12)),
    corner(BatchAsPythonNumber, (2, 12)),
    corner(LengthInScale, (2, 5, 12)),
    corner(SizesAsTensor, (2, 3, 8, 9)),
    corner(PositionsByLength, tokens(2, 5)),
    corner(PositionsByArange, tokens(2, 5)),
    corner(SineTable, (2, 5, 12)),
    corner(Coordinates, (2, 3, 8, 9)),
    corner(GlobalConstant, (2, 3, 8, 8)),
    corner(NumpyConstant, (2, 5, 12)),
    corner(ConstantsOfPython, (2, 4)),
    corner(PermutesLikeEinops, (2, 3, 8, 6)),
    corner(Pyramid, (2, 3, 8, 8)),
    corner(PairsOfExamples, (2, 12), (2, 6)),
    corner(BatchFolded, (2, 3, 8, 8), (2, 3, 8, 8)),
    corner(MinibatchDeviation, (2, 3, 8, 8)),
]

"""Python decides which operations run: by shape, by mode, by option, by value."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class NoisyBlock(nn.Module):
    """A linear layer with noise on its output while training."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return torch.relu(x)


class TrainingFlag(nn.Module):
    """A submodule reads self.training: the graph of one mode is wrong in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(NoisyBlock(), NoisyBlock())
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


class TrainingFlagAtRoot(nn.Module):
    """The model returns a pair while training and one tensor otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)
        self.auxiliary = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = torch.relu(self.body(x))
        if self.training:
            return self.head(x), self.auxiliary(x)
        return self.head(x)


class BranchesTrainedApart(nn.Module):
    """One submodule runs only in training, another only in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.noisy = nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5))
        self.clean = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noisy(x) if self.training else self.clean(x)
        return self.head(x)


class HalfInEvaluation(nn.Module):
    """A part that the user keeps in evaluation mode while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)).eval()
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x)).mean((2, 3))


class BranchOnLength(nn.Module):
    """Pads an odd sequence by one step before it is halved."""

    def __init__(self) -> None:
        super().__init__()
        self.merge = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2 == 1:
            x = F.pad(x, (0, 0, 0, 1))
        return self.merge(torch.cat([x[:, 0::2], x[:, 1::2]], dim=-1))


class BranchOnRank(nn.Module):
    """Takes images with or without a time axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            batch, time = x.shape[:2]
            return self.conv(x.flatten(0, 1)).unflatten(0, (batch, time)).mean(1)
        return self.conv(x)


class BranchOnBatchSize(nn.Module):
    """A batch of one example skips the statistics over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if x.size(0) > 1:
            x = x - x.mean(0, keepdim=True)
        return torch.tanh(x)


class BranchOnNone(nn.Module):
    """An optional mask that is not given: a tracer's stand-in is never None."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.body(x)
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        return x.mean(1)


class BranchOnDtype(nn.Module):
    """Images of bytes are scaled, images of floats are taken as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: Tensor) -> Tensor:
        if not image.is_floating_point():
            image = image.to(torch.get_default_dtype()) / 255
        return self.conv(image)


class BranchOnOption(nn.Module):
    """A string argument of forward chooses the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor, pool: str = "mean") -> Tensor:
        x = self.body(x)
        match pool:
            case "mean":
                return x.mean(1)
            case "max":
                return x.amax(1)
        raise ValueError(f"no such pooling: {pool}")


class BranchOnValue(nn.Module):
    """Python asks for the value of a tensor: no single graph holds both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12))
        self.positive = nn.Linear(12, 4)
        self.negative = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if x.sum() > 0:
            return self.positive(x)
        return self.negative(x)


class TriesFirst(nn.Module):
    """Catches the error of a shape that does not fit and projects instead."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.project = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        try:
            return y + x
        except RuntimeError:
            return y + self.project(x)


class ChecksItsInput(nn.Module):
    """Assertions and errors on the shape stand before the work."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if height != width:
            raise ValueError(f"the image must be square, not {height} x {width}")
        torch._assert(height % 4 == 0, f"the image must hold whole patches, not {height} pixels")
        return self.conv(image).flatten(2).transpose(1, 2)


ENTRIES = [
    corner(TrainingFlag, (2, 12)),
    corner(TrainingFlagAtRoot, (2, 12)),
    corner(BranchesTrainedApart, (2, 12)),
    corner(HalfInEvaluation, (2, 3, 10, 10)),
    corner(BranchOnLength, (2, 7, 8)),
    corner(BranchOnRank, (2, 3, 3, 8, 8)),
    corner(BranchOnBatchSize, (2, 12)),
    corner(BranchOnNone, (2, 5, 12)),
    corner(BranchOnDtype, lambda: torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)),
    corner(BranchOnOption, (2, 5, 12), pool="max"),
    corner(BranchOnValue, (2, 12)),
    corner(TriesFirst, (2, 12)),
    corner(ChecksItsInput, (2, 3, 16, 16)),
]

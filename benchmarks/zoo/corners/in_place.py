"""Operations that change a tensor where it lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner


class ReluInPlace(nn.Module):
    """Three spellings of the same in-place activation."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8, 8))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.convs
        x = self.relu(first(x))
        x = F.relu(second(x), inplace=True)
        return third(x).relu_()


class ResidualInPlace(nn.Module):
    """+= on a tensor is add_, and on the shortcut too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        shortcut = y
        y = self.second(torch.relu(y))
        y += shortcut
        y *= 0.5
        return y


class ResultUnused(nn.Module):
    """Only the effect of a call is wanted: dead-code elimination would delete it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y.mul_(3)
        y.clamp_(min=-1)
        return y


class SliceAssigned(nn.Module):
    """Writes into a slice of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.patch = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y[:, :, 1:4] = self.patch(x)
        y[:, 0] = 0
        y[..., -1] += 1.0
        return y


class WritesThroughView(nn.Module):
    """A view is changed, and its base is used."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        halves = y.view(y.size(0), 2, 4)
        halves[:, 0].add_(1.0)
        halves[:, 1].mul_(2.0)
        return y


class ReadBeforeWrite(nn.Module):
    """A value is kept as a copy, then its origin is changed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        before = y.clone()
        alias = y
        y.sub_(y.mean(-1, keepdim=True).detach())
        return before + alias


class FillsEmptyTensor(nn.Module):
    """The output is made empty and written piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(12, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        output = torch.empty(x.size(0), len(self.heads), 4, device=x.device, dtype=x.dtype)
        for number, head in enumerate(self.heads):
            output[:, number] = head(x)
        return output


class ScattersIntoZeros(nn.Module):
    """Sums the edges of a graph at their nodes (message passing)."""

    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Linear(16, 8)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        batch, length = nodes.shape[:2]
        rows = torch.arange(batch, device=nodes.device).unsqueeze(-1)
        source, target = edges.unbind(-1)
        messages = self.message(torch.cat([nodes[rows, source], nodes[rows, target]], dim=-1))
        sums = nodes.new_zeros(batch, length, messages.size(-1))
        return sums.scatter_add_(1, target.unsqueeze(-1).expand_as(messages), messages)


class MasksInPlace(nn.Module):
    """masked_fill_ on the scores, under a mask from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(12, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(x).squeeze(-1)
        scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
        return (scores.softmax(-1).unsqueeze(1) @ x).squeeze(1)


class ChangesItsInput(nn.Module):
    """Normalises the user's own tensor in place: another call with it starts from other values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: Tensor) -> Tensor:
        image.sub_(0.5).div_(0.25)
        return self.conv(image)


def small_graph() -> Tensor:
    """Five edges between four nodes, for two examples."""
    return torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]]).expand(2, -1, -1).contiguous()


ENTRIES = [
    corner(ReluInPlace, (2, 3, 8, 8)),
    corner(ResidualInPlace, (2, 12)),
    corner(ResultUnused, (2, 12)),
    corner(SliceAssigned, (2, 5, 12)),
    corner(WritesThroughView, (2, 12)),
    corner(ReadBeforeWrite, (2, 12)),
    corner(FillsEmptyTensor, (2, 12)),
    corner(ScattersIntoZeros, (2, 4, 8), small_graph),
    corner(MasksInPlace, (2, 5, 12), mask=lambda: torch.arange(5) < torch.tensor([[5], [3]])),
    corner(ChangesItsInput, (2, 3, 8, 8)),
]

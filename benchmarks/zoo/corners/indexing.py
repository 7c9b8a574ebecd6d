"""Parts of tensors: by slices, by tensors of numbers, by masks, by rank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class SlicesOfEveryKind(nn.Module):
    """Ellipsis, None, steps and negative numbers in one index."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y[..., ::2] * y[:, None, -1, 1::2] + y[:, :1, :4] - y[..., -1, None]


class TensorsAsIndices(nn.Module):
    """Two index tensors that broadcast (the last token of each sentence)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.embed(numbers)
        last = numbers.ne(0).cumsum(-1).argmax(-1)
        return self.head(x[torch.arange(x.shape[0], device=x.device), last])


class IndexFromBuffer(nn.Module):
    """A table of relative positions looks biases up (Swin)."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query_key = nn.Linear(12, 16)
        self.bias = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("table", (torch.arange(5)[:, None] - torch.arange(5)) + 4)

    def forward(self, x: Tensor) -> Tensor:
        query, key = self.query_key(x).unflatten(-1, (2, 4, 2)).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.table.view(-1)].view(5, 5, 4).permute(2, 0, 1)
        return (query @ key.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1)


class BooleanMask(nn.Module):
    """x[mask] has as many rows as the mask has ones: a size that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.body = nn.Linear(12, 12)
        self.head = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 20))

    def forward(self, numbers: Tensor) -> Tensor:
        x = torch.relu(self.body(self.embed(numbers)))
        return self.head(x[numbers > 10])


class RoutesByNonzero(nn.Module):
    """A mixture of experts: each expert takes the rows that nonzero finds for it."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(12, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.size(-1))
        weights, chosen = self.route(flat).softmax(-1).topk(2, dim=-1)
        output = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, rank = torch.where(chosen == number)
            output.index_add_(0, rows, expert(flat[rows]) * weights[rows, rank, None])
        return output.view_as(x)


class KeepsBest(nn.Module):
    """topk and gather choose tokens; sort puts them in order again."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(12, 1)
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(x).squeeze(-1)
        best = scores.topk(3, dim=1).indices.sort(dim=1).values
        kept = x.gather(1, best[..., None].expand(-1, -1, x.shape[-1]))
        return self.body(kept), scores.sort(descending=True)[0]


class Accumulates(nn.Module):
    """cumsum, cumprod, diff and searchsorted over time."""

    edges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.embed = nn.Embedding(6, 8)
        self.register_buffer("edges", torch.linspace(-1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).cumsum(1)
        y = y + torch.sigmoid(y).cumprod(dim=1) + F.pad(y.diff(dim=1), (0, 0, 1, 0))
        return y + self.embed(torch.bucketize(x.mean(-1), self.edges))


class ShiftsWindows(nn.Module):
    """Windows are cut from a rolled image and put back (Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        y = torch.roll(x, shifts=(-2, -2), dims=(1, 2))
        y = y.view(batch, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, channels)
        y = self.body(y)
        y = y.view(batch, height // 4, width // 4, 4, 4, channels).transpose(2, 3).reshape(batch, height, width, -1)
        return x + torch.roll(y, shifts=(2, 2), dims=(1, 2))


class ReadsFromBothEnds(nn.Module):
    """flip over time."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = nn.Linear(12, 8)
        self.backwards = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.forwards(x), self.backwards(x.flip(1)).flip([1])], dim=-1)


class ShiftsTokensRight(nn.Module):
    """A new tensor of numbers is filled from the old one (sequence to sequence)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=1)
        self.head = nn.Linear(12, 20)

    def forward(self, labels: Tensor) -> Tensor:
        shifted = labels.new_zeros(labels.shape)
        shifted[:, 1:] = labels[:, :-1].clone()
        shifted[:, 0] = 2
        shifted.masked_fill_(shifted == -100, 1)
        return self.head(self.embed(shifted))


class PositionsFromMask(nn.Module):
    """Positions count the tokens that are not padding (RoBERTa)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=1)
        self.positions = nn.Embedding(16, 12, padding_idx=1)
        self.body = nn.Linear(12, 8)

    def forward(self, numbers: Tensor) -> Tensor:
        mask = numbers.ne(1).int()
        positions = (torch.cumsum(mask, dim=1).type_as(mask) * mask).long() + 1
        return self.body(self.embed(numbers) + self.positions(positions))


class SplitsUnevenly(nn.Module):
    """split with a list of sizes, chunk of a size that does not divide, tensor_split, unbind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 11)

    def forward(self, x: Tensor) -> Tensor:
        left, middle, right = self.body(x).split([2, 4, 5], dim=-1)
        parts = [*left.unbind(-1), *(chunk.sum(-1) for chunk in right.chunk(2, -1))]
        return torch.stack([*parts, *(part.mean(-1) for part in middle.tensor_split(3, dim=-1))], dim=-1)


class SpansOfSentence(nn.Module):
    """Indices come as an input and choose rows of each example."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, spans: Tensor) -> Tensor:
        x = self.body(x)
        ends = torch.take_along_dim(x, spans.flatten(1).unsqueeze(-1), dim=1)
        return self.head(ends.view(*spans.shape[:2], -1))


ENTRIES = [
    corner(SlicesOfEveryKind, (2, 5, 12)),
    corner(TensorsAsIndices, tokens(2, 5)),
    corner(IndexFromBuffer, (2, 5, 12)),
    corner(BooleanMask, tokens(2, 9)),
    corner(RoutesByNonzero, (2, 5, 12)),
    corner(KeepsBest, (2, 5, 12)),
    corner(Accumulates, (2, 5, 12)),
    corner(ShiftsWindows, (2, 8, 8, 12)),
    corner(ReadsFromBothEnds, (2, 5, 12)),
    corner(ShiftsTokensRight, tokens(2, 5)),
    corner(PositionsFromMask, tokens(2, 5)),
    corner(SplitsUnevenly, (2, 12)),
    corner(SpansOfSentence, (2, 7, 12), lambda: torch.randint(7, (2, 3, 2))),
]

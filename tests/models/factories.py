"""Factories for the command line."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.models.small import Branching, Choosing, Drawing, Recurrent, chain

Batches = list[tuple[Tensor, Tensor]]


def model() -> nn.Module:
    return chain(layers=2, width=4)


def branching() -> nn.Module:
    return Branching()


def broken() -> nn.Module:
    raise ValueError("no such thing")


def importing() -> nn.Module:
    raise ModuleNotFoundError("No module named 'missing'", name="missing")


def number() -> int:
    return 3


def data() -> tuple[Batches, Batches]:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 5) for _ in range(5)]
    return batches[:4], batches[4:]


def branching_with_example() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Branching(), (torch.randn(2, 4, generator=torch.Generator().manual_seed(0)),)


def recurrent_with_example() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor]]:
    return Recurrent(), (torch.zeros(2, 5, 4),), {"scale": torch.ones(1)}


def drawing_with_example() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Drawing(4, 4), (torch.zeros(2, 4),)


def drawing() -> nn.Module:
    return nn.Sequential(nn.Flatten(), Drawing(192, 4))


def choosing() -> nn.Module:
    return Choosing()

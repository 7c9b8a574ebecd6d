"""Choices among equal values. A binary network often has them, and torch leaves open which comes first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """`torch.topk`, of equal values those of the lowest index, as ONNX defines it. Always sorted.

    >>> topk(torch.tensor([1.0, 3.0, 3.0, 3.0]), 2).indices
    tensor([1, 2])
    """
    if not input.dim():
        return torch.topk(input, k)
    values, indices = torch.sort(input, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """`torch.sort`, equal values in the order of their indices."""
    return torch.sort(input, dim=dim, descending=descending, stable=True)


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """`torch.argsort`, equal values in the order of their indices."""
    return torch.sort(input, dim=dim, descending=descending, stable=True).indices


SETTLED: dict[str, Any] = {"topk": topk, "sort": sort, "argsort": argsort}
"""By the name of the function or method of torch."""

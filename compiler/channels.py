"""Which axis of an operand counts channels: an activation's are summed over, a weight's become those of the result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from frostline.compiler.equations import plain
from frostline.compiler.graph import facts
from frostline.compiler.operations import EINSUM
from frostline.compiler.products import Product
from frostline.compiler.rearrangements import SAME, called, chain_to, is_constant


def channels_of(product: Product) -> tuple[int | None, int | None]:
    """The axis of channels in a product's activation, counted from the end, and in the root of its weight.

    None where there is no one such axis.
    """
    rank = len(facts(product.activation).shape or ())
    summed, outputs = _axes(product, rank)
    return (
        None if summed is None else summed - rank if summed >= 0 else summed,
        None if outputs is None else _in_root(product.weight, outputs),
    )


def _axes(product: Product, rank: int) -> tuple[int | None, int | None]:
    if product.operation is not EINSUM:
        return product.roles.channels, product.roles.outputs
    other = len(facts(product.weight).shape or ())
    first = product.roles.weight == "first"
    equation = str(product.operation.bind(product.node)["equation"])
    found = plain(equation, (other, rank) if first else (rank, other), first)
    if found is None:
        return None, None
    return (
        found.activation[-1] if found.summed == 1 else None,
        found.weight[0] if found.outputs == 1 else None,
    )


def _in_root(weight: fx.Node, axis: int) -> int | None:
    """The axis of a weight's root that becomes an axis of the weight itself, looking through its rearrangements."""
    root, *views = chain_to(weight)
    shape = facts(root).shape or ()
    if not views:
        return axis % len(shape)
    if not all(map(is_constant, views)):
        return None
    for own, size in enumerate(shape):
        places = torch.arange(size, device="cpu").reshape(-1, *(1 for _ in shape[own + 1 :])).expand(shape)
        seen = _through(views, places)
        if seen is not None and size > 1 and torch.equal(seen, _along(seen, axis)):
            return own
    return None


def _through(views: list[fx.Node], value: Any) -> Tensor | None:
    for view in views:
        if called(view) in SAME:
            continue
        if view.op == "call_method":
            value = getattr(value, str(view.target))(*view.args[1:], **view.kwargs)
        elif callable(view.target):
            value = view.target(value, *view.args[1:], **view.kwargs)
    return value if isinstance(value, Tensor) else None


def _along(value: Tensor, axis: int) -> Tensor:
    """The same shape with entries that differ along one axis only, taken from the first place of every other."""
    line = value[tuple(slice(None) if i == axis % value.dim() else 0 for i in range(value.dim()))]
    after = value.dim() - 1 - axis % value.dim()
    return line.reshape(-1, *(1 for _ in range(after))).expand(value.shape)

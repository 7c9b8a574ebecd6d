from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from frostline.compiler.bits import unpack, unpack_row
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary, integer, is_binary, levels_of, on_bits, packed
from frostline.compiler.kernels import operators  # noqa: F401  (defines torch.ops.frostline)
from frostline.compiler.operations import Operation
from frostline.compiler.products import Product, products_of
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import exchange
from frostline.schedules import ZERO_ONE


@dataclass(frozen=True)
class UseKernels(Pass):
    """conv(binarize(x), unpack(bits)) -> frostline.binary_conv(binarize(x), bits), and linear likewise.

    The net computes in PyTorch what it did, on packed weights. Activations of 0 and 1, or floats, have no kernels,
    and few channels in a group gain nothing: those products stay, and unpack their bits at every call. Sums are
    contiguous, also of channels-last images.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary, integer, packed)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary, integer, packed)

    def rewrite(self, graph: Graph) -> None:
        for product in products_of(graph):
            in_float32 = facts(product.node).dtype == torch.float32  # autocast rounds what it computes
            in_words = product.weight.target is unpack
            if on_bits(product) and in_words and in_float32 and _operand(product.activation) == "signs":
                exchange(graph, product.node, *bit_operator(product))
                if not product.weight.users:
                    graph.module.graph.erase_node(product.weight)


def bit_operator(product: Product) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The operator of a product that is computed on bits, and its arguments."""
    operation, arguments = product.operation, product.operation.bind(product.node)
    bits, inputs = product.weight.args
    assert isinstance(bits, fx.Node)
    narrow = product.weight.target is unpack_row
    shape = list(inputs) if narrow else []  # type: ignore[arg-type]
    names = _operand(product.activation), str(facts(product.node).name)
    if not operation.spatial:
        return torch.ops.frostline.binary_linear.default, (product.activation, bits, inputs, *names)
    kernel = shape[2:] or list((facts(bits).shape or ())[1:-1])
    window = (
        kernel,
        _each(arguments["stride"], operation),
        _pads(arguments["padding"], kernel, arguments["dilation"], operation),
        _each(arguments["dilation"], operation),
        arguments["groups"],
    )
    if narrow:
        given = (product.activation, bits, math.prod(shape), shape, *window, *names)
        return torch.ops.frostline.binary_narrow_conv.default, given
    return torch.ops.frostline.binary_conv.default, (product.activation, bits, inputs, *window, *names)


def _operand(source: fx.Node) -> str:
    """What an activation consists of: signs, zero_one, or floats."""
    if not is_binary(source):
        return "floats"
    return "zero_one" if levels_of(source) == ZERO_ONE else "signs"


def _each(value: int | Sequence[int], operation: Operation) -> list[int]:
    return [value] * operation.spatial if isinstance(value, int) else list(value) * (operation.spatial // len(value))


def _pads(
    padding: str | int | Sequence[int], kernel: list[int], dilation: int | Sequence[int], operation: Operation
) -> list[int]:
    if padding == "valid":
        return [0] * 2 * operation.spatial
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(_each(dilation, operation), kernel, strict=True)]
        return [total // 2 for total in totals] + [total - total // 2 for total in totals]
    assert not isinstance(padding, str)
    return _each(padding, operation) * 2

"""Which values of a binary graph are integers, and how large they can be."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn
from torch.nn import functional

from frostline.compiler.flow import flow_of, written
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import is_binary
from frostline.compiler.operations import has_bit_form
from frostline.compiler.pooling import max_pool_of
from frostline.compiler.products import Product, products_of
from frostline.compiler.rearrangements import called, rearranged

_LARGEST = 2**24
"""Up to here float32 holds every integer, so that sums are exact in any order."""
_SUMS = {operator.add, operator.sub, torch.add, torch.sub, "add", "sub"}
_IN_ROWS = {"flatten", "reshape", "view", "squeeze", "unsqueeze"}
"""Rearrangements that keep the order in memory."""


@dataclass(frozen=True)
class Integer:
    """Integers from -bound to bound; `axis`, counted from the end, is that of the channels, None where any will do."""

    bound: int
    axis: int | None


def integers_of(graph: Graph) -> dict[fx.Node, Integer]:
    """The integer values of a binary graph: products of binary operands, their sums, and what is selected from them.

    Nothing that reads a tensor after it was written into in place.
    """
    products = {product.node: product for product in products_of(graph)}
    flow = flow_of(graph)
    found: dict[fx.Node, Integer] = {}
    for node in graph.nodes:
        if facts(node).shape is None or flow.last_writes[node] or written(node, graph) is not None:
            continue
        one = _of_product(products[node]) if node in products else _integer(node, graph, found)
        if one is not None and one.bound < _LARGEST:
            found[node] = one
    return found


def _of_product(product: Product) -> Integer | None:
    both = is_binary(product.activation) and is_binary(product.weight)
    operation, rank = product.operation, len(facts(product.node).shape or ())
    if not both or not has_bit_form(operation) or product.added is not None or rank + operation.channel < 1:
        return None
    return Integer(math.prod((facts(product.weight).shape or ())[1:]), operation.channel)


def _integer(node: fx.Node, graph: Graph, known: dict[fx.Node, Integer]) -> Integer | None:
    if is_binary(node):
        return Integer(1, None)
    sources = [known.get(source) for source in node.all_input_nodes if facts(source).shape is not None]
    first = sources[0] if sources else None
    if first is None:
        return None
    if node.target in _SUMS and len(node.args) == len(sources) == 2 and not node.kwargs:
        return _sum(node, first, sources[1])
    if max_pool_of(node, graph) is not None or _keeps(node, graph):
        return first
    source = rearranged(node)
    if source is None or called(node) not in _IN_ROWS:
        return None
    axis = _moved(first.axis, facts(source).shape or (), facts(node).shape or ())
    return replace(first, axis=axis) if axis is not None else None


def _keeps(node: fx.Node, graph: Graph) -> bool:
    """Whether a call gives integers for integers, none larger."""
    if node.op == "call_module":
        return type(graph.module.get_submodule(str(node.target))) in (nn.ReLU, nn.Identity)
    return node.target in (torch.relu, functional.relu, "relu")


def _sum(node: fx.Node, one: Integer, other: Integer | None) -> Integer | None:
    shapes = {facts(each).shape for each in (node, *node.all_input_nodes)}
    axes = {each.axis for each in (one, other) if each is not None} - {None}
    if other is None or len(shapes) > 1 or len(axes) > 1:
        return None
    return Integer(one.bound + other.bound, next(iter(axes), None))


def _moved(axis: int | None, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Where an axis is, counted from the end, once a tensor has another shape: as long, and as much behind it."""
    if axis is None:
        return None
    behind = math.prod(before[axis:]) // before[axis]
    places = (at for at in range(-1, -len(after), -1) if after[at] == before[axis])
    return next((at for at in places if math.prod(after[at:]) == behind * after[at]), None)

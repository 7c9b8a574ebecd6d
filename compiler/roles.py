"""Roles: which operations are first, last, or a shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import networkx as nx
from torch import fx

from frostline.compiler.flow import Flow
from frostline.compiler.graph import Graph, facts
from frostline.compiler.products import Product
from frostline.compiler.rearrangements import called


def roles_of(
    graph: Graph,
    products: Sequence[Product],
    flow: Flow,
    depths: Mapping[fx.Node, int],
    heights: Mapping[fx.Node, int],
) -> dict[fx.Node, tuple[str, ...]]:
    """The roles of every operation: first, last, downsample.

    `depths` is for every node the most operations on a path that ends with it, `heights` on one that starts there.
    """
    between = flow.between
    fed = _fed_by_floats(graph, between)
    projections = set(_projections(graph, products, between, depths))
    roles: dict[fx.Node, tuple[str, ...]] = {}
    for product in products:
        holds = {
            "first": depths[product.node] == 1 and product.activation in fed,
            "last": heights[product.node] == 1,
            "downsample": product.node in projections,
        }
        roles[product.node] = tuple(role for role, true in holds.items() if true)
    return roles


def _fed_by_floats(graph: Graph, between: Any) -> set[fx.Node]:
    """The nodes that a floating-point input of the model reaches."""
    fed: set[fx.Node] = set()
    containers: set[fx.Node] = set()
    for node in nx.topological_sort(between):
        dtype, above = facts(node).dtype, list(between.predecessors(node))
        from_input = node.op == "placeholder" or any(source in containers for source in above)
        if dtype is None and from_input:
            containers.add(node)  # a dictionary or tuple of inputs
        elif (from_input and dtype is not None and dtype.is_floating_point) or any(source in fed for source in above):
            fed.add(node)
    return fed


def _projections(
    graph: Graph, products: Sequence[Product], between: Any, depths: Mapping[fx.Node, int]
) -> Iterator[fx.Node]:
    """The convolutions of one pixel that stand alone on the shorter side of an addition: projection shortcuts."""
    by_node = {product.node: product for product in products}
    for addition in graph.nodes:
        sides = [side for side in addition.args[:2] if isinstance(side, fx.Node)] if _is_addition(addition) else []
        if len(sides) != 2:
            continue
        for side, other in (sides, sides[::-1]):
            nearest = list(_nearest(side, by_node, between))
            if len(nearest) != 1 or not _one_pixel(nearest[0]) or depths[other] < depths[nearest[0].node]:
                continue
            if not _reaches(nearest[0].node, other, between, depths):
                main = list(_nearest(other, by_node, between))
                if not (len(main) == 1 and _one_pixel(main[0]) and depths[other] == depths[side]):
                    yield nearest[0].node


def _is_addition(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and called(node) in ("add", "iadd", "add_")


def _nearest(node: fx.Node, products: Mapping[fx.Node, Product], between: Any) -> Iterator[Product]:
    """The operations just above a value, not looking past additions."""
    waiting, seen = [node], {node}
    while waiting:
        here = waiting.pop()
        if here in products:
            yield products[here]
        elif not _is_addition(here):
            new = [source for source in between.predecessors(here) if source not in seen]
            seen.update(new)
            waiting += new


def _reaches(node: fx.Node, below: fx.Node, between: Any, depths: Mapping[fx.Node, int]) -> bool:
    """Whether a value follows from a node; only nodes at least as deep can."""
    waiting, seen = [below], {below}
    while waiting:
        here = waiting.pop()
        if here is node:
            return True
        new = [s for s in between.predecessors(here) if s not in seen and depths[s] >= depths[node]]
        seen.update(new)
        waiting += new
    return False


def _one_pixel(product: Product) -> bool:
    return product.operation.spatial > 0 and all(size == 1 for size in (facts(product.weight).shape or ())[2:])

"""Which nodes compute the same: by what they call and on what, never by their names."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from torch import fx

from frostline.compiler.graph import Graph
from frostline.compiler.products import attribute


@dataclass(frozen=True)
class _Same:
    """Stands for every node of one structure."""

    number: int


def structures(graph: Graph) -> dict[fx.Node, int]:
    """A number for every node; nodes of equal numbers make the same call on the same values, down to the tensors of the
    model. A weight that is used under two names is the same tensor."""
    numbers: dict[Hashable, int] = {}
    found: dict[fx.Node, int] = {}
    for node in graph.nodes:
        found[node] = numbers.setdefault(_key(node, graph, found), len(numbers))
    return found


def _key(node: fx.Node, graph: Graph, found: dict[fx.Node, int]) -> Hashable:
    if node.op == "get_attr":
        return "tensor", id(attribute(graph, node))
    if node.op in ("placeholder", "output"):
        return node.op, node.name

    def numbered(source: fx.Node) -> Any:
        return _Same(found[source])

    return node.op, node.target, repr(fx.map_arg((node.args, node.kwargs), numbered))

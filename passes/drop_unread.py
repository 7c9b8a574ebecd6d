from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from frostline.compiler.flow import written
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary
from frostline.compiler.rearrangements import rearranged
from frostline.compiler.rewriting import Invariant, Pass


@dataclass(frozen=True)
class DropUnread(Pass):
    """y = conv(x, w), and nobody reads y -> nothing. What is called for its effect stays."""

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        for node in reversed(list(graph.nodes)):
            if not node.users and _makes_a_value(node) and written(node, graph) is None:
                graph.module.graph.erase_node(node)


def _makes_a_value(node: fx.Node) -> bool:
    if node.op in ("placeholder", "output"):
        return False
    return facts(node).shape is not None or rearranged(node) is not None

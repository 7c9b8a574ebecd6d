from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, mask_nodes, masked, settled
from frostline.compiler.masks import binarize
from frostline.compiler.rewriting import Invariant, Pass


@dataclass(frozen=True)
class FreezeMasks(Pass):
    """conv(mask(x), mask(w)) -> conv(binarize(x), binarize(w)), once every mask is settled."""

    requires: ClassVar[tuple[Invariant, ...]] = (masked, settled)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        found = [node for node, _ in mask_nodes(graph)]
        for node in found:
            with graph.module.graph.inserting_before(node):
                sign = graph.module.graph.call_function(binarize, node.args)
            set_facts(sign, facts(node))
            node.replace_all_uses_with(sign)
            graph.module.graph.erase_node(node)
        for target in {str(node.target) for node in found}:
            graph.module.delete_submodule(target)

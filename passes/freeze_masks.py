from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, mask_nodes, masked, settled
from frostline.compiler.masks import binarize, channel_scale
from frostline.compiler.net import modes_of
from frostline.compiler.products import attribute
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import Writer
from frostline.schedules import SIGNS


@dataclass(frozen=True)
class FreezeMasks(Pass):
    """conv(mask(x), mask(w)) -> conv(binarize(x), binarize(w)), or binarize(w) * s, once every mask is settled."""

    requires: ClassVar[tuple[Invariant, ...]] = (masked, settled)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        graph.module.modes = replace(modes_of(graph.module), training=None)  # type: ignore[assignment]
        found = list(mask_nodes(graph))
        for node, mask in found:
            kwargs: dict[str, Any] = {} if mask.levels == SIGNS else {"levels": mask.levels}
            with graph.module.graph.inserting_before(node):
                hard = graph.module.graph.call_function(binarize, node.args, kwargs)
            set_facts(hard, facts(node))
            if mask.scaled is not None:
                hard = _scaled(graph, hard, node, mask.scaled)
            node.replace_all_uses_with(hard)
            graph.module.graph.erase_node(node)
        for target in {str(node.target) for node, _ in found}:
            graph.module.delete_submodule(target)


def _scaled(graph: Graph, signs: fx.Node, mask: fx.Node, axis: int) -> fx.Node:
    """The signs of a parameter times the scale of its channels, which is a buffer from here on."""
    write, latent = Writer(graph, mask), mask.all_input_nodes[0]
    scale = channel_scale(attribute(graph, latent), axis)
    return write(torch.mul, signs, write.held(f"{facts(mask).name}_scale", scale))

"""Writing calls into a graph, each with the shape of its value and with the line of the call that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts


@dataclass(frozen=True)
class Writer:
    """Writes calls in front of a node."""

    graph: Graph
    node: fx.Node

    def __call__(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> fx.Node:
        """A call on nodes and constants; `name` is what users know its value by."""
        nodes = self.graph.module.graph
        with nodes.inserting_before(self.node):
            call = nodes.call_function(function, args)
        value = function(*fx.map_arg(args, _on_meta))
        known = replace(facts(self.node), name=name, shape=tuple(value.shape), dtype=value.dtype)
        return set_facts(call, known)

    def replace(self, value: fx.Node) -> None:
        """Let everything that reads the node read another value, and drop the node."""
        self.node.replace_all_uses_with(value)
        self.graph.module.graph.erase_node(self.node)


def _on_meta(node: fx.Node) -> torch.Tensor:
    """A tensor of a node's shape, without values."""
    return torch.empty(facts(node).shape or (), dtype=facts(node).dtype, device="meta")

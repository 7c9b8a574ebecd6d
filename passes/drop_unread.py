from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from frostline.compiler.flow import Flow, flow_of, written
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary
from frostline.compiler.operations import EINSUM, operation_of
from frostline.compiler.rearrangements import called, rearranged
from frostline.compiler.rewriting import Invariant, Pass


@dataclass(frozen=True)
class DropUnread(Pass):
    """y = conv(x, w), and nobody reads y -> nothing.

    What is called for its effect stays, and what writes into a tensor that is seen elsewhere. Hooks on gradients go: a
    binary graph is not trained.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        flow = flow_of(graph)
        shared = set(_shared(graph, flow))
        needed = {node for node in graph.nodes if _has_effect(node, graph, flow, shared)}
        waiting = list(needed)
        while waiting:
            new = set(flow.between.predecessors(waiting.pop())) - needed
            needed |= new
            waiting += new
        for node in reversed(list(graph.nodes)):
            if node not in needed:
                graph.module.graph.erase_node(node)


def _has_effect(node: fx.Node, graph: Graph, flow: Flow, shared: set[fx.Node]) -> bool:
    if called(node) == "register_hook":
        return False
    target = written(node, graph)
    if target is not None:
        return flow.owners[target] in shared
    return node.op in ("placeholder", "output") or (facts(node).shape is None and rearranged(node) is None)


_MAKING = {
    "add", "sub", "mul", "div", "truediv", "floordiv", "neg", "pow", "exp", "log", "sqrt", "sigmoid", "tanh", "clamp",
    "zeros", "ones", "empty", "full", "zeros_like", "ones_like", "cat", "stack", "where", "softmax", "size", "gelu",
}  # fmt: skip
"""Calls that make a tensor of their own, or none, besides operations."""


def _shared(graph: Graph, flow: Flow) -> Iterator[fx.Node]:
    """The owners of memory that something else may see: what other calls make, and what they are given.

    `einsum` may return a view.
    """
    for node in graph.nodes:
        if operation_of(node) in (None, EINSUM) and called(node) not in _MAKING and rearranged(node) is None:
            target = written(node, graph)
            yield from (flow.owners[value] for value in (node, *node.all_input_nodes) if target is None)

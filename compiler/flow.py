"""Data flow: which values follow from which, through calls that write into a tensor in place as well."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from frostline.compiler.graph import Graph
from frostline.compiler.rearrangements import called, rearranged

_WRITING = {
    operator.setitem, operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
    operator.imod, operator.ipow, operator.imatmul, operator.iand, operator.ior, operator.ixor,
}  # fmt: skip


_HANDING_ON = (nn.Identity, _DropoutNd)


@dataclass(frozen=True)
class Flow:
    """`between` holds an edge from every value to what follows from it, as a networkx graph; `last_writes` holds, for
    each reader, the last call before it that wrote into what it reads; `owners` the node that made the tensor which a
    value is, or is a view of."""

    between: Any
    owners: Mapping[fx.Node, fx.Node]
    last_writes: Mapping[fx.Node, Mapping[fx.Node, fx.Node]]

    def version(self, reader: fx.Node, value: fx.Node) -> tuple[fx.Node, fx.Node | None]:
        """A value as a reader sees it: the node that made it, and the one that wrote into it last."""
        return value, self.last_writes[reader].get(value)


def flow_of(graph: Graph) -> Flow:
    """The data flow of a graph. A write into a tensor is seen by all later readers of it and of its views."""
    between: Any = nx.DiGraph()
    between.add_nodes_from(graph.nodes)
    owners: dict[fx.Node, fx.Node] = {}
    latest: dict[fx.Node, fx.Node] = {}
    last_writes: dict[fx.Node, dict[fx.Node, fx.Node]] = {}
    for node in graph.nodes:
        sources = node.all_input_nodes
        last_writes[node] = {source: latest[owners[source]] for source in sources if owners[source] in latest}
        between.add_edges_from((source, node) for source in (*sources, *last_writes[node].values()))
        target = written(node, graph)
        same = handed_on(node, graph) if target is None else target
        owners[node] = node if same is None else owners[same]
        if target is not None:
            latest[owners[target]] = node
    return Flow(between, owners, last_writes)


def written(node: fx.Node, graph: Graph) -> fx.Node | None:
    """The tensor that a call writes into, or None."""
    if isinstance(out := node.kwargs.get("out"), fx.Node):
        return out
    target = node.args[0] if node.args else None
    if not isinstance(target, fx.Node):
        return None
    if node.op == "call_module":
        writes = getattr(graph.module.get_submodule(str(node.target)), "inplace", False) is True
    elif node.op in ("call_function", "call_method"):
        name = called(node)
        trailing = name.endswith("_") and not name.endswith("__")
        writes = node.target in _WRITING or trailing or node.kwargs.get("inplace") is True
    else:
        writes = False
    return target if writes else None


def handed_on(node: fx.Node, graph: Graph) -> fx.Node | None:
    """The tensor that a call returns itself, or a view of; None where it makes one. Dropout is that of eval mode."""
    source = node.args[0] if node.args else None
    if node.op == "call_module":
        known = isinstance(graph.module.get_submodule(str(node.target)), _HANDING_ON)
    else:
        known = called(node) == "dropout"
    return source if known and isinstance(source, fx.Node) else rearranged(node)

"""What a front end returns: one graph for both modes, or one for each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Traced:
    """A model's forward as a graph; `training` is that of train mode, where it is another one."""

    evaluating: fx.Graph
    training: fx.Graph | None = None


def same(one: fx.Graph, other: fx.Graph) -> bool:
    """Whether two graphs make the same calls in the same order."""
    places = {node: index for graph in (one, other) for index, node in enumerate(graph.nodes)}
    rows = [
        [
            (node.op, node.target, fx.map_arg((node.args, node.kwargs), lambda n: f"%{places[n]}"))
            for node in graph.nodes
        ]
        for graph in (one, other)
    ]
    try:
        return bool(rows[0] == rows[1])
    except Exception:
        return False  # arguments that cannot be compared

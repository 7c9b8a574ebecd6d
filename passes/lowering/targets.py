"""The targets, and `lower`, which picks one by name."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from frostline.compiler.graph import Graph
from frostline.errors import LoweringError, Offence, nearest
from frostline.passes.lowering.portable import lower_portable

TARGETS: dict[str, Callable[[Graph], onnx.ModelProto]] = {"portable": lower_portable}


def lower(graph: Graph, target: str = "portable") -> onnx.ModelProto:
    """Lower a binary graph for a target.

    Raises LoweringError for an unknown target or a graph that it cannot express, PassError for a graph that is not
    binary and packed.
    """
    if target not in TARGETS:
        remedy = nearest(target, TARGETS) or f"the targets are: {', '.join(TARGETS)}"
        raise LoweringError(f'there is no target "{target}"', [Offence("unknown target", remedy=remedy)])
    if graph.regions:
        remedy = "export the regions one by one: for part in binary.parts(): fl.export(part, ...)"
        what = f"its own Python runs between {', '.join(graph.regions)}"
        raise LoweringError("a model that was captured in regions is no one file", [Offence(what, remedy=remedy)])
    return TARGETS[target](graph)

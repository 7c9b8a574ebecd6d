"""The targets, and `lower`, which picks one by name."""

from __future__ import annotations

import onnx

from frostline.compiler.graph import Graph, facts
from frostline.errors import LoweringError, Offence, nearest
from frostline.passes.lowering.cpu_int8 import CPU_INT8
from frostline.passes.lowering.cuda_fp16 import CUDA_FP16
from frostline.passes.lowering.functions import functions
from frostline.passes.lowering.portable import lower_portable
from frostline.passes.lowering.target import Target
from frostline.passes.lowering.tensorrt_int8 import TENSORRT_INT8

TARGETS = {
    "portable": Target(functions()),
    "cpu-int8": CPU_INT8,
    "cuda-fp16": CUDA_FP16,
    "tensorrt-int8": TENSORRT_INT8,
}


def lower(graph: Graph, target: str = "portable") -> onnx.ModelProto:
    """Lower a binary graph for a target.

    Raises LoweringError for an unknown target, a graph that cannot be expressed, or operations that the target does not
    have, all of them at once; PassError for a graph that is not binary and packed.
    """
    if target not in TARGETS:
        remedy = nearest(target, TARGETS) or f"the targets are: {', '.join(TARGETS)}"
        raise LoweringError(f'there is no target "{target}"', [Offence("unknown target", remedy=remedy)])
    if graph.regions:
        remedy = "export the regions one by one: for part in binary.parts(): fl.export(part, ...)"
        what = f"its own Python runs between {', '.join(graph.regions)}"
        raise LoweringError("a model that was captured in regions is no one file", [Offence(what, remedy=remedy)])
    model = lower_portable(graph)
    missing = list(TARGETS[target].missing(model))
    if missing:
        lines = {facts(node).name: facts(node).where for node in graph.nodes}
        able = [name for name, other in TARGETS.items() if not any(other.missing(model))]
        remedy = f"choose another target: {' or '.join(able)}"
        offences = [Offence(f"{name} is a {kind}", lines.get(name), remedy) for name, kind in missing]
        raise LoweringError(f'the target "{target}" does not have every operation of this graph', offences)
    TARGETS[target].rewrite(model)
    return model

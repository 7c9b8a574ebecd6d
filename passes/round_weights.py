from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from frostline.compiler.eight_bits import round_off, widen
from frostline.compiler.float_weights import FloatWeight, float_weights
from frostline.compiler.graph import Graph
from frostline.compiler.invariants import binary, finite, integer, packed, rounded
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import Writer, forget


@dataclass(frozen=True)
class RoundWeights(Pass):
    """conv(x, w) -> conv(x, widen(w_bytes, w_scale)): eight bits a weight that stays float, and w is gone.

    `w_scale = max |w| / 127` of each output channel, and `w_bytes = round(w / w_scale)`. The graph itself computes with
    the rounded weights. A weight that anything but products reads, or that is computed, stays as it is.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary, integer, packed, finite)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary, integer, packed, rounded)

    def rewrite(self, graph: Graph) -> None:
        found = list(float_weights(graph))
        for weight in found:
            _round(weight, graph)
        forget(graph, {node for weight in found for node in weight.reads})


def _round(weight: FloatWeight, graph: Graph) -> None:
    value, channels = weight.value, weight.channels
    if weight.groups > 1:
        value, channels = value.reshape(weight.groups, -1, *value.shape[1:]), (0, *(axis + 1 for axis in channels))
    bytes, scale = round_off(value, channels)
    write = Writer(graph, weight.reads[0])
    held = write.held(f"{weight.name}_bytes", bytes), write.held(f"{weight.name}_scale", scale)
    wide = write(widen, *held, name=weight.name)
    if weight.groups > 1:
        wide = write(torch.flatten, wide, 0, 1)
    for read in weight.reads:
        read.replace_all_uses_with(wide)

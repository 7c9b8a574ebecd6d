from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph
from frostline.compiler.invariants import binary
from frostline.compiler.rearrangements import called
from frostline.compiler.rewriting import Invariant, Pass
from frostline.compiler.ties import SETTLED


@dataclass(frozen=True)
class SettleTies(Pass):
    """torch.topk(x, k) -> topk(x, k), which takes the first of equal values; `sort` and `argsort` likewise."""

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        for node in graph.nodes:
            if called(node) in SETTLED and _is_torchs(node) and "out" not in node.kwargs:
                node.op, node.target = "call_function", SETTLED[called(node)]


def _is_torchs(node: fx.Node) -> bool:
    return node.op == "call_method" or node.target is getattr(torch, called(node))

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from frostline.compiler.graph import Graph
from frostline.compiler.invariants import binary, integer, is_binary
from frostline.compiler.products import products_of
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import combine


@dataclass(frozen=True)
class SplitBias(Pass):
    """conv(binarize(x), binarize(w), b) -> conv(binarize(x), binarize(w)) + b: the products become integers."""

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (integer,)

    def rewrite(self, graph: Graph) -> None:
        for product in products_of(graph):
            bias = product.added
            if bias is not None and product.operation.added == "bias" and is_binary(product.weight):
                product.operation.rebind(product.node, "bias", None)
                combine(graph, product, torch.add, bias)

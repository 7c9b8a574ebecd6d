from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph
from frostline.compiler.invariants import binary, is_binarize, unscaled
from frostline.compiler.products import Product, products_of
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import combine


@dataclass(frozen=True)
class LiftScales(Pass):
    """conv(x, binarize(w) * s, b) -> conv(x, binarize(w)) * s + b: one factor a channel of the result.

    A sum of 0 is exactly 0 from here on; before, rounding could give it either sign.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary, unscaled)

    def rewrite(self, graph: Graph) -> None:
        scaled: set[fx.Node] = set()
        for product in products_of(graph):
            weight = product.weight
            if weight.target is torch.mul and is_binarize(weight.args[0]):
                scaled.add(weight)
                _lift(graph, product)
        for weight in scaled:
            graph.module.graph.erase_node(weight)


def _lift(graph: Graph, product: Product) -> None:
    signs, scale = product.weight.args[:2]
    assert isinstance(signs, fx.Node)
    assert isinstance(scale, fx.Node)
    bias = product.added
    product.rebind("weight", signs)
    if bias is not None:
        product.operation.rebind(product.node, "bias", None)
        combine(graph, product, torch.add, bias)
    combine(graph, product, torch.mul, scale)  # between the product and its bias

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, is_binarize, unscaled
from frostline.compiler.products import Product, products_of
from frostline.compiler.rewriting import Invariant, Pass


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
    node, operation, nodes = product.node, product.operation, graph.module.graph
    signs, scale = product.weight.args[:2]
    assert isinstance(signs, fx.Node)
    assert isinstance(scale, fx.Node)
    line, shape = replace(facts(node), name=None), (-1, *(1,) * operation.spatial)
    bias, result = product.added, node
    product.rebind("weight", signs)
    if bias is not None:
        operation.rebind(node, "bias", None)
    readers = list(node.users)
    for combine, value in ((torch.mul, scale), (torch.add, bias)):
        if value is None:
            continue
        with nodes.inserting_after(result):
            shaped = nodes.call_function(torch.reshape, (value, shape))
        with nodes.inserting_after(shaped):
            after = nodes.call_function(combine, (result, shaped))
        set_facts(shaped, replace(line, shape=None))
        result = set_facts(after, line)
    for reader in readers:
        reader.replace_input_with(node, result)

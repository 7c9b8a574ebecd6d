from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, integer, is_binary
from frostline.compiler.operations import Operation
from frostline.compiler.products import products_of
from frostline.compiler.rewriting import Invariant, Pass


@dataclass(frozen=True)
class SplitBias(Pass):
    """conv(binarize(x), binarize(w), b) -> conv(binarize(x), binarize(w)) + b: the products become integers."""

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (integer,)

    def rewrite(self, graph: Graph) -> None:
        for product in products_of(graph):
            bias = product.added
            if bias is not None and product.operation.added == "bias" and is_binary(product.weight):
                _split(graph, product.node, product.operation, bias)


def _split(graph: Graph, node: fx.Node, operation: Operation, bias: fx.Node) -> None:
    operation.rebind(node, "bias", None)
    nodes, line = graph.module.graph, replace(facts(node), name=None)
    with nodes.inserting_after(node):
        total = nodes.call_function(torch.add, (node, bias))
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
    set_facts(total, line)
    if operation.spatial:
        with nodes.inserting_before(total):
            shaped = nodes.call_function(torch.reshape, (bias, (-1, *(1,) * operation.spatial)))
        set_facts(shaped, replace(line, shape=None))
        total.update_arg(1, shaped)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.nn import functional

from frostline.compiler.equations import Plain, plain
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary, is_binary
from frostline.compiler.operations import ADDMM, BADDBMM, EINSUM, MATMUL, MM
from frostline.compiler.products import Product, products_of
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import Writer


@dataclass(frozen=True)
class UseLinear(Pass):
    """x @ binarize(w) -> linear(x, binarize(w).t()), and so every product with one binary matrix.

    `b + x @ w` becomes a product and a sum first. A product with a batch of matrices stays what it is.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary,)

    def rewrite(self, graph: Graph) -> None:
        for product in products_of(graph):
            if is_binary(product.weight) and product.operation in (ADDMM, BADDBMM):
                _split_sum(product, Writer(graph, product.node))
        for product in products_of(graph):
            if is_binary(product.weight):
                _rewrite(product, Writer(graph, product.node))


def _split_sum(product: Product, write: Writer) -> None:
    arguments = product.operation.bind(product.node)
    left, right = (arguments[name] for name in product.operation.arguments[1:3])
    multiply = torch.mm if product.operation is ADDMM else torch.bmm
    total = write(multiply, left, right, name=facts(product.node).name)
    for factor, value in ((arguments["alpha"], None), (arguments["beta"], arguments["input"])):
        if value is None:
            total = total if factor == 1 else write(torch.mul, total, factor)
        elif factor != 0:
            total = write(torch.add, total, value if factor == 1 else write(torch.mul, value, factor))
    write.replace(total)


def _rewrite(product: Product, write: Writer) -> None:
    matrix = len(facts(product.weight).shape or ()) == 2
    if product.operation is EINSUM:
        _rewrite_einsum(product, write)
    elif matrix and product.operation in (MATMUL, MM):
        name, left = facts(product.node).name, product.roles.outputs == -2
        turned = left and len(facts(product.activation).shape or ()) > 1
        weight = product.weight if left else write(torch.t, product.weight)
        source = write(torch.transpose, product.activation, -1, -2) if turned else product.activation
        result = write(functional.linear, source, weight, name=name)
        write.replace(write(torch.transpose, result, -1, -2) if turned else result)


def _rewrite_einsum(product: Product, write: Writer) -> None:
    arguments = product.operation.bind(product.node)
    first, second = (len(facts(arguments[name]).shape or ()) for name in ("first", "second"))
    form = plain(arguments["equation"], (first, second), weight_first=product.roles.weight == "first")
    if form is None or not _same_sizes(product, form):
        return
    source = _permuted(product.activation, form.activation, write)
    source = write(torch.flatten, source, -form.summed) if form.summed > 1 else source
    weight = _permuted(product.weight, form.weight, write)
    outputs = (facts(weight).shape or ())[: form.outputs]
    weight = write(torch.flatten, weight, form.outputs) if form.summed > 1 else weight
    weight = write(torch.flatten, weight, 0, form.outputs - 1) if form.outputs > 1 else weight
    result = write(functional.linear, source, weight, name=facts(product.node).name)
    result = write(Tensor.unflatten, result, -1, outputs) if form.outputs > 1 else result
    write.replace(_permuted(result, form.result, write))


def _permuted(value: fx.Node, order: tuple[int, ...], write: Writer) -> fx.Node:
    return value if order == tuple(range(len(order))) else write(torch.permute, value, order)


def _same_sizes(product: Product, form: Plain) -> bool:
    """Whether the summed axes are equally long: `einsum` would stretch an axis of one entry."""
    activation, weight = (facts(value).shape or () for value in (product.activation, product.weight))
    pairs = zip(form.activation[-form.summed :], form.weight[-form.summed :], strict=True)
    return all(activation[one] == weight[other] for one, other in pairs)

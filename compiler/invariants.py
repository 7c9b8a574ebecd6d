"""What passes require of a graph, and ensure: captured, masked, settled, binary, packed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from frostline.compiler.bits import unpack, unpack_row
from frostline.compiler.eight_bits import widen
from frostline.compiler.float_weights import float_weights
from frostline.compiler.graph import Graph, facts
from frostline.compiler.masks import Mask, binarize, binarize_at
from frostline.compiler.operations import has_bit_form
from frostline.compiler.pooling import origin_of
from frostline.compiler.products import Product, products_of
from frostline.compiler.rearrangements import chain_to, root_of
from frostline.compiler.rewriting import Violation
from frostline.schedules import SIGNS, Levels


def mask_nodes(graph: Graph) -> Iterator[tuple[fx.Node, Mask]]:
    """Every mask in the graph, with the node that applies it."""
    for node in graph.nodes:
        if node.op == "call_module":
            module = graph.module.get_submodule(str(node.target))
            if isinstance(module, Mask):
                yield node, module


def captured(graph: Graph) -> Iterator[Violation]:
    """There is no mask and no binary value in it yet."""
    for node, _ in mask_nodes(graph):
        yield Violation(f"{facts(node).name} is masked already", facts(node).where)


def masked(graph: Graph) -> Iterator[Violation]:
    """There is at least one mask, and every mask sits on an operand of an operation, or a view of it does."""
    found = list(mask_nodes(graph))
    if not found and not graph.region:
        yield Violation("there is no mask in it", remedy="run InsertMasks first")
    products = products_of(graph)
    operands = {operand for product in products for operand in (product.activation, product.weight)}
    inside = {node for operand in operands for node in chain_to(operand)} | {product.node for product in products}
    for node, _ in found:
        if node not in inside or not all(user in inside for user in node.users):
            yield Violation(f"the mask of {facts(node).name} is not on an operand", facts(node).where)


def settled(graph: Graph) -> Iterator[Violation]:
    """Every entry of every mask is frozen."""
    places = {str(facts(node).name): (mask.frozen, facts(node).where) for node, mask in mask_nodes(graph)}
    for name, (mask, where) in places.items():
        frozen, entries = int(mask.sum()), mask.numel()
        if frozen < entries:
            what = f"{name}: {frozen:,} of {entries:,} entries are binary"
            yield Violation(what, where, "advance() to the end of the plan first")


def binary(graph: Graph) -> Iterator[Violation]:
    """No mask is left."""
    for node, _ in mask_nodes(graph):
        yield Violation(f"{facts(node).name} is still masked", facts(node).where)


def unscaled(graph: Graph) -> Iterator[Violation]:
    """No binary weight is multiplied before its operation reads it."""
    for product in products_of(graph):
        if product.weight.target is torch.mul and is_binarize(product.weight.args[0]):
            yield Violation(f"the weight of {facts(product.node).name} is scaled", facts(product.node).where)


def integer(graph: Graph) -> Iterator[Violation]:
    """Operations of two binary operands add nothing themselves, so that their outputs are integers."""
    for product in products_of(graph):
        if is_binary(product.activation) and is_binary(product.weight) and product.added is not None:
            yield Violation(f"{facts(product.node).name} adds a bias to its integers", facts(product.node).where)


def unfolded(graph: Graph) -> Iterator[Violation]:
    """No BatchNorm is part of a threshold yet."""
    for node in graph.nodes:
        if is_binarize_at(node):
            what = f"what stands before {facts(node).name} is folded into thresholds"
            yield Violation(what, facts(node).where, "estimate BatchNorm before FoldBatchNorm")


def packed(graph: Graph) -> Iterator[Violation]:
    """No latent weight is left behind a binarize: each is bits."""
    for product in products_of(graph):
        if is_binarize(root := root_of(product.weight)):
            yield Violation(f"{facts(root).name} is not packed", facts(root).where)


def finite(graph: Graph) -> Iterator[Violation]:
    """The float weights of products are numbers."""
    for weight in float_weights(graph):
        if not bool(weight.value.isfinite().all()):
            remedy = "training diverged: freeze an earlier checkpoint"
            yield Violation(f"{weight.name} holds values that are not finite", weight.where, remedy)


def rounded(graph: Graph) -> Iterator[Violation]:
    """No float weight is left that products alone read: each is bytes."""
    for weight in float_weights(graph):
        yield Violation(f"{weight.name} is not rounded", weight.where)


def is_binarize(node: object) -> bool:
    """Whether a node makes something two-valued."""
    return isinstance(node, fx.Node) and node.target in (binarize, binarize_at)


def is_binarize_at(node: object) -> bool:
    """Whether a node makes an integer two-valued, by a threshold a channel."""
    return isinstance(node, fx.Node) and node.target is binarize_at


def is_unpack(node: object) -> bool:
    """Whether a node is a packed weight."""
    return isinstance(node, fx.Node) and node.target in (unpack, unpack_row)


def is_widen(node: object) -> bool:
    """Whether a node is a weight that was rounded to 8 bits."""
    return isinstance(node, fx.Node) and node.target is widen


def is_binary(node: fx.Node) -> bool:
    """Whether the value of a node is one of two levels everywhere, also after a rearrangement or a max pooling."""
    origin = origin_of(node)
    return is_binarize(origin) or is_unpack(origin)


def levels_of(node: fx.Node) -> Levels:
    """The two levels of a binary node: a weight's are -1 and 1."""
    origin = origin_of(node)
    return origin.kwargs.get("levels", SIGNS) if is_binarize(origin) else SIGNS  # type: ignore[return-value]


def on_bits(product: Product) -> bool:
    """Whether a product is one that is computed on bits: a linear operation or a convolution, its weight packed."""
    known = has_bit_form(product.operation)
    rank = len(facts(product.activation).shape or ())
    return (
        known and is_unpack(product.weight) and (not product.operation.spatial or rank == product.operation.spatial + 2)
    )

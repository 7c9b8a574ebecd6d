"""The float weights of products: parameters that products alone read, with the axes that count their channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from frostline.compiler.channels import channels_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.products import Product, asks_for_a_size, attribute, products_of
from frostline.compiler.rearrangements import rearranged, root_of


@dataclass(frozen=True)
class FloatWeight:
    """A float32 parameter that products read, and nothing else does.

    `reads` are the nodes that read it. `channels` are the axes along which its output channels lie: of one matrix or
    kernel one, of a stack of matrices those of the stack as well. Of a transposed convolution the outputs of each of
    its `groups` are channels of their own, and the groups lie along the first axis.
    """

    name: str
    where: str | None
    value: Tensor
    reads: tuple[fx.Node, ...]
    channels: tuple[int, ...]
    groups: int


def float_weights(graph: Graph) -> Iterator[FloatWeight]:
    """Every weight that stays float and whose channels are known, in the order of the graph.

    Not among them are weights that are computed, as normalised ones are, those that an embedding or anything else reads
    as well, and those whose products take different axes for channels.
    """
    products = {product.node: product for product in products_of(graph)}
    reads: dict[int, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            reads.setdefault(id(attribute(graph, node)), []).append(node)
    called = [graph.module.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]
    elsewhere = {id(parameter) for module in called for parameter in module.parameters()}
    for own in reads.values():
        value = attribute(graph, own[0])
        if not isinstance(value, nn.Parameter) or value.dtype != torch.float32 or id(value) in elsewhere:
            continue
        uses = [use for node in own for use in _uses(node, products)]
        found = {_channels(use) if use is not None else None for use in uses}
        if len(found) == 1 and (known := found.pop()) is not None and (use := uses[0]) is not None:
            where = facts(use.node).where
            yield FloatWeight(str(own[0].target), where, value.detach(), tuple(own), *known)


def _uses(node: fx.Node, products: Mapping[fx.Node, Product]) -> Iterator[Product | None]:
    """What reads a value, also through rearrangements: products that it is the weight of, or None for all else."""
    for user in node.users:
        if rearranged(user) is node:
            yield from _uses(user, products)
        elif not asks_for_a_size(user):
            product = products.get(user)
            alone = product is not None and product.weight is node and user.all_input_nodes.count(node) == 1
            yield product if product is not None and alone and node not in (product.activation, product.added) else None


def _channels(product: Product) -> tuple[tuple[int, ...], int] | None:
    """The axes of channels in the root of a product's weight, and the groups that lie along its first axis."""
    _, axis = channels_of(product)
    if axis is None:
        return None
    root, operation = root_of(product.weight), product.operation
    groups = product.groups if operation.name.startswith("conv_transpose") else 1
    if groups > 1 and root is not product.weight:
        return None
    stack = () if operation.spatial else range(len(facts(root).shape or ()) - 2)
    return tuple(dict.fromkeys((*stack, axis))), groups

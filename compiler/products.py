"""Products: the calls of an operation whose one operand is a weight.

An operand is a weight when it is made of parameters and of no input of the model. It may be a parameter, a view of one,
or computed from some, as weight normalisation does. What a product yields is an activation, and so is what is looked up
in an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from frostline.compiler.bits import unpack, unpack_row
from frostline.compiler.eight_bits import widen
from frostline.compiler.flow import written
from frostline.compiler.graph import Graph, facts
from frostline.compiler.operations import EINSUM, Operation, Roles, operation_of
from frostline.compiler.rearrangements import called, rearranged, root_of

_LOOK_UPS = {"embedding", "embedding_bag"}
_OF_SIZES = {"size", "sym_size", "dim", "numel", "stride", "nelement", "ndimension"}
_SIZES = {"shape", "dtype", "device", "ndim"}


@dataclass(frozen=True)
class Product:
    """A call of an operation in a graph, with its operands."""

    node: fx.Node
    operation: Operation
    roles: Roles
    activation: fx.Node
    weight: fx.Node

    @property
    def added(self) -> fx.Node | None:
        """What the call adds to the product."""
        operation = self.operation
        value = operation.bind(self.node)[operation.added] if operation.added else None
        return value if isinstance(value, fx.Node) else None

    @property
    def groups(self) -> int:
        """Into how many parts a convolution's channels fall, of which none reads another."""
        return int(self.operation.bind(self.node).get("groups", 1))

    def rebind(self, role: str, value: fx.Node) -> None:
        """Give the call another operand as its `input` or its `weight`."""
        self.operation.rebind(self.node, self.roles.weight if role == "weight" else self.roles.activation, value)


def products_of(graph: Graph) -> tuple[Product, ...]:
    """Every product of a graph, in its order."""
    names = {name for name, _ in graph.module.named_parameters(remove_duplicate=False)}
    parameters = {node for node in graph.nodes if node.op == "get_attr" and node.target in names}
    changed = {root_of(target) for node in graph.nodes if (target := written(node, graph)) is not None}
    weights: set[fx.Node] = set()
    activations: set[fx.Node] = set()
    sized = _made_of_sizes(graph)
    found = []
    for node in graph.nodes:
        operation = operation_of(node)
        product = _product(node, operation, weights, activations) if operation is not None else None
        if product is not None and root_of(product.weight) in sized:
            product = None  # it is another one at every batch size
        if product is not None:
            found.append(product)
        if asks_for_a_size(node):
            continue
        source = rearranged(node)
        sources = node.all_input_nodes if source is None else [source]
        begins = node.op == "placeholder" or product is not None or node in changed or _looks_up(node, graph)
        if begins or not activations.isdisjoint(sources):
            activations.add(node)
        elif called(node) == "_add_batch_dim":
            continue  # inside of `vmap` it is another weight for each entry
        elif node in parameters or node.target in (unpack, unpack_row, widen) or not weights.isdisjoint(sources):
            weights.add(node)
    return tuple(found)


def _product(node: fx.Node, operation: Operation, weights: set[fx.Node], activations: set[fx.Node]) -> Product | None:
    arguments = operation.bind(node)
    if operation is EINSUM and not isinstance(arguments["equation"], str):
        return None
    possible = [
        (roles, activation, weight)
        for roles in operation.roles
        if isinstance(activation := arguments[roles.activation], fx.Node)
        and isinstance(weight := arguments[roles.weight], fx.Node)
        and weight in weights
        and facts(activation).shape is not None
        and not (facts(weight).dtype or torch.float32).is_complex
        and all(len(facts(value).shape or ()) >= 2 for value in (weight, root_of(weight)))
    ]
    if len(operation.roles) > 1:  # else a product of two parameters, or of one and a constant, which makes a weight
        possible = [one for one in possible if one[1] in activations]
    return Product(node, operation, *possible[0]) if possible else None


def _made_of_sizes(graph: Graph) -> set[fx.Node]:
    """What follows from the size of an input, or from an input itself."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def asks_for_a_size(node: fx.Node) -> bool:
    """Whether a value is a size or the like, which no entry of a tensor makes."""
    return called(node) in _OF_SIZES or (node.target is getattr and node.args[1] in _SIZES)


def _looks_up(node: fx.Node, graph: Graph) -> bool:
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        return isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return called(node) in _LOOK_UPS


def above(node: fx.Node) -> tuple[fx.Node, ...]:
    """A node and everything that it is computed from, nearest first."""
    seen = {node: None}
    waiting = [node]
    while waiting:
        new = [source for source in waiting.pop().all_input_nodes if source not in seen]
        seen.update(dict.fromkeys(new))
        waiting += new
    return tuple(seen)


def held_parameters(graph: Graph, nodes: Iterable[fx.Node]) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that nodes read, under the names that the graph reads them by: directly, or in a module."""
    for node in nodes:
        if node.op == "get_attr":
            value = attribute(graph, node)
            if isinstance(value, nn.Parameter):
                yield str(node.target), value
        elif node.op == "call_module":
            for name, parameter in graph.module.get_submodule(str(node.target)).named_parameters():
                yield f"{node.target}.{name}", parameter


def attribute(graph: Graph, node: fx.Node) -> torch.Tensor:
    """The tensor that a `get_attr` node reads."""
    parent, _, name = str(node.target).rpartition(".")
    value: torch.Tensor = getattr(graph.module.get_submodule(parent), name)
    return value

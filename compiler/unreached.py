"""The parameters that a graph uses in no product, and that therefore stay float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from frostline.compiler.graph import Graph, facts
from frostline.compiler.names import joined
from frostline.compiler.operations import operation_of
from frostline.compiler.products import above, held_parameters, products_of
from frostline.compiler.rearrangements import called, rearranged, root_of

_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}


@dataclass(frozen=True)
class Unreached:
    """A parameter, or a module that runs as a whole, with the user's line and the reason why it is no site."""

    name: str
    where: str | None
    why: str


def unreached(graph: Graph) -> tuple[Unreached, ...]:
    """The parameters of two or more dimensions that no product of the graph reads, in the graph's order."""
    if graph.regions:
        return (*(one for part in graph.parts() for one in unreached(part)), *_between(graph))
    reached: set[fx.Node] = set()
    for product in products_of(graph):
        if facts(product.weight).dtype == torch.float32:
            reached.update(above(root_of(product.weight)))
    weights = {id(parameter) for _, parameter in held_parameters(graph, reached)}
    found: dict[str, Unreached] = {}
    for node in graph.nodes:
        held = [one for one in held_parameters(graph, [node]) if id(one[1]) not in weights and _is_matrix(one[1])]
        if not held:
            continue
        name = str(node.target)
        reader = next(_readers(node), node)
        found.setdefault(name, Unreached(joined(graph.region, name), facts(reader).where, _reason(graph, reader)))
    return tuple(found.values())


def _between(graph: Graph) -> Iterator[Unreached]:
    """The parameters of a model in regions that lie in none of them."""
    inside = {id(parameter) for part in graph.parts() for parameter in part.module.parameters()}
    for name, parameter in graph.module.named_parameters():
        if id(parameter) not in inside and _is_matrix(parameter):
            why = "on a branch that the example did not take, or read by the model's own Python"
            yield Unreached(name, None, f"outside of the regions: {why}")


def _is_matrix(parameter: nn.Parameter) -> bool:
    return sum(size > 1 for size in parameter.shape) >= 2


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """What uses the value of a parameter, looking past its views."""
    if node.op == "get_attr":
        for user in node.users:
            yield from _past_views(user)


def _past_views(node: fx.Node) -> Iterator[fx.Node]:
    if rearranged(node) is None:
        yield node
    else:
        for user in node.users:
            yield from _past_views(user)


def _reason(graph: Graph, node: fx.Node) -> str:
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            return f"{type(module).__name__} runs as a whole: its weights cannot be reached"
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return "looked up, not multiplied"
        return f"used by {type(module).__name__}, which is no operation that can be binarized"
    name = called(node)
    if operation_of(node) is not None:
        return "only weights of float32 can turn binary"
    if name in _RECURRENT:
        return f"{name} runs as a whole: its weights cannot be reached"
    return "looked up, not multiplied" if "embedding" in name else f"used by {name or node.op}, in no product"

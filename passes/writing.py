"""Writing into a graph: buffers; calls, with the shape of their value and the line of what they stand for; and what is
forgotten when others take its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import fx, nn

from frostline.compiler.flow import written
from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.products import Product, held_parameters


@dataclass(frozen=True)
class Writer:
    """Writes calls in front of a node, with the line of `line`, by default the node's own."""

    graph: Graph
    node: fx.Node
    line: fx.Node | None = None

    def __call__(self, function: Callable[..., Any], *args: Any, name: str | None = None, **kwargs: Any) -> fx.Node:
        """A call on nodes and constants; `name` is what users know its value by."""
        nodes = self.graph.module.graph
        with nodes.inserting_before(self.node):
            call = nodes.call_function(function, args, kwargs)
        return self._known(call, function(*fx.map_arg(args, _on_meta), **kwargs), name)

    def held(self, name: str, value: torch.Tensor) -> fx.Node:
        """A buffer, held under a name as `hold` does, and read."""
        path = hold(self.graph.module, name, value)
        with self.graph.module.graph.inserting_before(self.node):
            read = self.graph.module.graph.get_attr(path)
        return self._known(read, value, None)

    def replace(self, value: fx.Node) -> None:
        """Let everything that reads the node read another value, and drop the node."""
        self.node.replace_all_uses_with(value)
        self.graph.module.graph.erase_node(self.node)

    def _known(self, written: fx.Node, value: torch.Tensor, name: str | None) -> fx.Node:
        line = facts(self.line or self.node)
        return set_facts(written, replace(line, name=name, shape=tuple(value.shape), dtype=value.dtype))


def exchange(graph: Graph, node: fx.Node, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Let a call of another function take a node's place, with all that is known of the node."""
    with graph.module.graph.inserting_before(node):
        call = graph.module.graph.call_function(function, arguments)
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    graph.module.graph.erase_node(node)


def combine(graph: Graph, product: Product, function: Callable[..., Any], value: fx.Node) -> None:
    """Let everything that reads a product read `function(product, value)`; `value` has one entry a channel."""
    nodes, node, spatial = graph.module.graph, product.node, product.operation.spatial
    line = replace(facts(node), name=None)
    with nodes.inserting_after(node):
        total = nodes.call_function(function, (node, value))
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
    set_facts(total, line)
    if spatial or len(facts(value).shape or ()) > 1:
        with nodes.inserting_before(total):
            shaped = nodes.call_function(torch.reshape, (value, (-1, *(1,) * spatial)))
        set_facts(shaped, replace(line, shape=None))
        total.update_arg(1, shaped)


def hold(module: nn.Module, name: str, value: torch.Tensor) -> str:
    """Register a buffer in the module that a name begins with, under a name that is free. Returns its path."""
    parts, inside, owner = name.split("."), 0, module
    while inside < len(parts) - 1 and (child := owner._modules.get(parts[inside])) is not None:
        inside, owner = inside + 1, child
    own = "_".join(parts[inside:]).replace("@", "_")
    free = next(n for i in count(1) if not hasattr(owner, n := own if i == 1 else f"{own}_{i}"))
    owner.register_buffer(free, value)
    return ".".join([*parts[:inside], free])


def forget(graph: Graph, latent: set[fx.Node]) -> None:
    """Drop those of some nodes that nothing reads any more, and the parameters that only they read, under all names."""
    parameters = dict(held_parameters(graph, latent))
    for node in reversed(list(graph.nodes)):
        if node in latent and not node.users and node.op != "placeholder" and written(node, graph) is None:
            graph.module.graph.erase_node(node)
    used = {id(parameter) for _, parameter in held_parameters(graph, graph.nodes)}
    gone = {id(parameter) for parameter in parameters.values()} - used
    for module in graph.module.modules():
        lost = [name for name, parameter in module._parameters.items() if id(parameter) in gone]
        for name in lost:
            delattr(module, name)
        if lost and not isinstance(module, fx.GraphModule):
            module.__class__ = nn.Module  # it only holds names now; its own methods may ask for what is gone


def _on_meta(node: fx.Node) -> torch.Tensor:
    """A tensor of a node's shape, without values."""
    return torch.empty(facts(node).shape or (), dtype=facts(node).dtype, device="meta")

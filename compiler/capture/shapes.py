"""The shape of every value in a graph, and which of its axes follow the batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from frostline.compiler.capture.eager import batches, on_meta
from frostline.compiler.graph import Example, Graph, facts, set_facts

_Found = dict[str, tuple[tuple[int, ...], torch.dtype]]


def record_shapes(graph: Graph) -> None:
    """Note the shape of every value for the example, and which of its axes follow the batch, unless it is known."""
    if any(facts(node).shape is not None for node in graph.nodes):
        return
    twin = copy.deepcopy(graph.module).eval()
    own = _values(twin, graph.example)
    runs: list[_Found] = []
    for _, example in batches(graph.example):
        try:
            runs.append(_values(twin, example))
        except Exception:  # noqa: S112  (a batch that the model does not take tells nothing)
            continue
    for node in graph.nodes:
        if node.name not in own:
            continue
        shape, dtype = own[node.name]
        shapes = [shape, *(found[node.name][0] for found in runs if node.name in found)]
        axes: tuple[int, ...] = (0,)
        if len({len(each) for each in shapes}) == 1:  # a model that takes no other batch than its own has none
            axes = tuple(axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1)
        set_facts(node, replace(facts(node), shape=shape, dtype=dtype, batch=axes))


class _Values(fx.Interpreter):
    """Runs a graph once and keeps the shape and dtype of every tensor, by the name of its node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: _Found = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n.name] = tuple(value.shape), value.dtype
        return value


def _values(module: fx.GraphModule, example: Example) -> _Found:
    interpreter = _Values(module)
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(module, example)):
        interpreter.run(*example.bound(module).values())
    return interpreter.found

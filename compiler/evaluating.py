"""Evaluating single nodes of a graph, without running all of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx

from frostline.compiler.rearrangements import SAME, called, rearranged


class Evaluator(fx.Interpreter):
    """Computes values that no input reaches, and what follows from given ones; modules in eval mode. It remembers.

    With a `device`, everything is computed there, and on the tensors' own otherwise.
    """

    def __init__(self, module: fx.GraphModule, device: str | None = None) -> None:
        super().__init__(module)
        self._device = device

    def value(self, node: fx.Node) -> Any:
        """The value of a node, and on the way those that it is computed from."""
        if node not in self.env:
            unchanged = rearranged(node) if called(node) in SAME else None
            for source in node.all_input_nodes if unchanged is None else [unchanged]:
                self.value(source)
            with torch.no_grad():
                self.env[node] = self.run_node(node) if unchanged is None else self.env[unchanged]
        return self.env[node]

    def after(self, node: fx.Node, source: fx.Node, value: Tensor) -> Tensor:
        """The value of a node where that of the one source that inputs reach is given. Not remembered."""
        for other in node.all_input_nodes:
            if other is not source:
                self.value(other)
        self.env[source] = value
        with torch.no_grad():
            result: Tensor = self.run_node(node)
        del self.env[source]
        return result

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.to(self._device) if isinstance(value, Tensor) and self._device else value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A copy runs: some modules change their buffers."""
        module = copy.deepcopy(self.fetch_attr(str(target))).eval()
        return (module.to(self._device) if self._device else module)(*args, **kwargs)

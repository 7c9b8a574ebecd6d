"""The minimal front end: `torch.fx`'s own tracer, with convolutions and linear layers opened.

Fast, and right for models whose Python does not depend on values, shapes or flags. The proof finds where it is wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from frostline.compiler.capture.traced import Traced, same
from frostline.compiler.capture.user_line import calling_line
from frostline.compiler.graph import Example, Facts, duplicate, set_facts

_OPENED = (nn.Linear, _ConvNd, nn.MultiheadAttention)


class FxTracer:
    """Front end `fx`."""

    name = "fx"

    def trace(self, model: nn.Module, example: Example) -> Traced:
        """The graph of a model's forward; arguments that the example leaves out keep their defaults.

        Raises TypeError where it would be wrong in silence: the modes differ, or a branch was decided by chance.
        """
        graphs = []
        for twin in (model.eval(), duplicate(model).train()):
            before = torch.get_rng_state()
            graphs.append(_trace(twin, example))
            if not torch.equal(before, torch.get_rng_state()):
                torch.set_rng_state(before)
                raise TypeError("the forward draws random numbers that would be drawn only once, while tracing")
        if not same(*graphs):
            raise TypeError("train mode takes another way than eval mode")
        return Traced(graphs[0])


def _trace(model: nn.Module, example: Example) -> fx.Graph:
    signature = inspect.signature(model.forward)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and _gathers(parameter, example):
            raise TypeError(f"forward gathers arguments in *{parameter.name}: name each of them")
    given = signature.bind(*example.args, **example.kwargs).arguments
    left_out = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in given and parameter.default is not inspect.Parameter.empty
    }
    return _Tracer(model).trace(model, concrete_args=left_out or None)


def _gathers(parameter: inspect.Parameter, example: Example) -> bool:
    return parameter.kind is parameter.VAR_POSITIONAL or bool(example.kwargs)


class _Tracer(fx.Tracer):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._path: list[str] = [""]
        tensors = chain(model.named_parameters(), model.named_buffers())
        self._names = {id(tensor): name for name, tensor in tensors}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless = next(m.children(), None) is None
        return childless and m.__module__.startswith("torch.nn.modules") and not isinstance(m, _OPENED)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._path.append(self.path_of_module(m))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self._path.pop()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A parameter or buffer becomes one node under its first name. (fx searches all of them each time.)"""
        name = self._names.get(id(attr_val)) if isinstance(attr_val, Tensor) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        return set_facts(node, Facts(where=calling_line(inside="trace"), path=self._path[-1]))

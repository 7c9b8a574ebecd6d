"""The minimal front end: `torch.fx`'s own tracer, with convolutions and linear layers opened.

Fast, and right for models whose Python does not depend on values, shapes or flags. The proof finds where it is wrong.
"""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx, nn

from frostline.compiler.capture.leaves import OPENED, check_hooks
from frostline.compiler.capture.traced import Traced, same
from frostline.compiler.capture.user_line import calling_line, is_users
from frostline.compiler.graph import Example, Facts, set_facts
from frostline.compiler.net import duplicate


class FxTracer:
    """Front end `fx`."""

    name = "fx"

    def trace(self, model: nn.Module, example: Example) -> Traced:
        """The graph of a model's forward; arguments that the example leaves out keep their defaults.

        Raises TypeError where it would be wrong in silence: the modes differ, or a branch was decided by chance.
        """
        check_hooks(model, _stays_whole)
        if any(_hooks(model)):
            raise TypeError("the model itself has hooks, which a traced forward does not run")
        graphs = []
        for twin in (model.eval(), duplicate(model).train()):
            before = torch.get_rng_state()
            tracer = _Tracer(twin)
            with _noted(tracer.lost):
                graphs.append(_trace(tracer, twin, example))
            if not torch.equal(before, torch.get_rng_state()):
                torch.set_rng_state(before)
                tracer.lost.append("random numbers")
            if tracer.lost:
                raise TypeError(f"tracing would lose, or bake in, {', '.join(dict.fromkeys(tracer.lost))}")
        if not same(*graphs):
            raise TypeError("train mode takes another way than eval mode")
        return Traced(graphs[0])


def _hooks(module: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [hook for kind in kinds for hook in getattr(module, kind).values()]


@contextmanager
def _noted(lost: list[str]) -> Iterator[None]:
    """Notes what tracing would lose, also where the user's own code would catch an exception."""

    def noting(what: str, run: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            lost.append(what)
            return run(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for owner, name, what in (
            (torch._C, "_set_grad_enabled", "no_grad and its like"),
            (torch.inference_mode, "__enter__", "inference_mode"),
            (torch, "is_grad_enabled", "the question whether gradients are enabled"),
            (torch.amp.autocast_mode.autocast, "__enter__", "autocast"),
        ):
            stack.enter_context(patch.object(owner, name, noting(what, getattr(owner, name))))
        run = torch.autograd.Function.__dict__["apply"].__func__
        wrapped: Any = classmethod(noting("the backward of an autograd.Function", run))
        stack.enter_context(patch.object(torch.autograd.Function, "apply", wrapped))
        yield


def _trace(tracer: _Tracer, model: nn.Module, example: Example) -> fx.Graph:
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
    return tracer.trace(model, concrete_args=left_out or None)


def _gathers(parameter: inspect.Parameter, example: Example) -> bool:
    return parameter.kind is parameter.VAR_POSITIONAL or bool(example.kwargs)


class _Proxy(fx.Proxy):
    """A traced value that keeps in-place operators in place, and notes when Python asks it for a value."""

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(operator.itruediv, other)

    def __float__(self) -> float:
        return float(self._asked())

    def __int__(self) -> int:
        return int(self._asked())

    def __index__(self) -> int:
        return int(self._asked())

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        if is_users(sys._getframe(1).f_code.co_filename):
            self.__dict__["tracer"].lost.append("the answer to isinstance")
        return _Proxy

    def _in_place(self, function: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def _asked(self) -> Any:
        return self.tracer.to_bool(self)


def _stays_whole(module: nn.Module) -> bool:
    """Torch's own childless modules; unlike the recorder's, no subclasses of them."""
    childless = next(module.children(), None) is None
    return childless and module.__module__.startswith("torch.nn.modules") and not isinstance(module, OPENED)


class _Tracer(fx.Tracer):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.lost: list[str] = []
        """What the model's forward does and the graph will not."""
        self._path: list[str] = [""]
        tensors = chain(model.named_parameters(), model.named_buffers())
        self._names = {id(tensor): name for name, tensor in tensors}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        self.lost.append("a branch on a value")
        return super().to_bool(obj)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _stays_whole(m)

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
        return set_facts(node, Facts(where=calling_line(), path=self._path[-1]))

"""What a node calls where torch has no function for it, or where a call cannot be written as code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from frostline.compiler.tensors import parts, rebuilt


def update(buffer: Tensor, value: Tensor) -> None:
    """What a forward does that assigns a new value to its buffer."""
    with torch.no_grad():
        buffer.copy_(value)


def register_hook(tensor: Tensor, hook: Callable[..., Any]) -> None:
    """`tensor.register_hook(hook)`, where there are gradients."""
    if tensor.requires_grad:
        tensor.register_hook(hook)  # type: ignore[no-untyped-call]


def switch_gradients(enabled: bool, before: bool) -> None:
    """What `no_grad` does at its ends, in a graph that may itself be run within `no_grad`."""
    torch._C._set_grad_enabled(enabled and before)


@cache
def applied(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """The call of an autograd function, as a function with its name."""

    def apply(*args: Any, **kwargs: Any) -> Any:
        return function.apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    return _named(apply, function.__name__)


class Maker:
    """Makes objects of the kind of one that the model returned, with other tensors in them."""

    def __init__(self, value: Any, holds: list[bool]) -> None:
        self._holds = holds
        self._pattern = [None if held else part for held, (_, part) in zip(holds, parts(value), strict=True)]
        self._empty = value if isinstance(value, tuple) else rebuilt(value, self._pattern)
        self.__name__ = self.__qualname__ = type(value).__name__

    def __call__(self, *tensors: Any) -> Any:
        left = iter(tensors)
        inner = [next(left) if held else part for held, part in zip(self._holds, self._pattern, strict=True)]
        return rebuilt(self._empty, inner)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Maker) or type(self._empty) is not type(other._empty):
            return False
        return self._holds == other._holds and str(self._pattern) == str(other._pattern)

    def __hash__(self) -> int:
        return hash(type(self._empty))


def closed(target: Any, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str, Any]:
    """A call with arguments that cannot be written as code, closed over them."""
    kept = [argument for argument in args if printable(argument)]
    places = [printable(argument) for argument in args]
    names = {name: argument for name, argument in kwargs.items() if printable(argument)}
    others = {name: argument for name, argument in kwargs.items() if name not in names}

    def call(*inner: Any, **named: Any) -> Any:
        left = iter(inner)
        full = [next(left) if place else argument for place, argument in zip(places, args, strict=True)]
        function = target if op == "call_function" else getattr(full.pop(0), target)
        return function(*full, **named, **others)

    return _named(call, target if isinstance(target, str) else target.__name__), "call_function", (tuple(kept), names)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    return function


def printable(value: Any) -> bool:
    """Whether fx can write a value as code."""
    if isinstance(value, (tuple, list)):
        return all(map(printable, value))
    if isinstance(value, dict):
        return all(map(printable, value.values()))
    plain = (fx.Node, str, int, float, bool, complex, slice, torch.dtype, torch.device, torch.layout)
    return value is None or value is ... or (isinstance(value, (*plain, torch.memory_format)) and not _is_enum(value))


def _is_enum(value: Any) -> bool:
    return hasattr(type(value), "__members__")

"""The tensors inside of any value: containers, dataclasses and plain objects, which forwards take and return."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, torch.nn.Module)
_OPAQUE = ("torch.", "sympy.", "numpy.", "builtins.")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor inside of a value, in a stable order, each as often as it stands there.

    >>> [int(tensor) for tensor in tensors_in({"a": torch.tensor(1), "b": (None, [torch.tensor(2)])})]
    [1, 2]
    """
    yield from _tensors(value, set())


def _tensors(value: Any, above: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in above:  # an object may lead back to itself
        for _, part in parts(value):
            yield from _tensors(part, {*above, id(value)})


def holds_tensor(value: Any) -> bool:
    """Whether there is a tensor inside of a value."""
    return next(tensors_in(value), None) is not None


def map_tensors(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same value with every tensor inside of it changed; what holds no tensor is the same object."""
    if isinstance(value, Tensor):
        return change(value)
    if not holds_tensor(value):
        return value
    return rebuilt(value, [map_tensors(part, change) for _, part in parts(value)])


def outline(value: Any, batch: int | None = None) -> str:
    """What a value is made of, with the shapes of its tensors but without their entries, nor the size of a batch.

    >>> outline(("a", [torch.ones(2, 3)]))
    "('a', [torch.float32[2, 3]])"
    >>> outline(torch.ones(2, 2), batch=2)
    'torch.float32[batch, 2]'
    """
    if isinstance(value, Tensor):
        first = ["batch" if size == batch else str(size) for size in value.shape[:1]]
        return f"{value.dtype}[{', '.join([*first, *map(str, value.shape[1:])])}]"
    if not holds_tensor(value):
        return repr(value)
    inner = ", ".join(outline(part, batch) for _, part in parts(value))
    return f"[{inner}]" if isinstance(value, list) else f"({inner})"


def parts(value: Any) -> list[tuple[Any, Any]]:
    """The parts of a value, each with its key: an index, a dictionary's key, or a `Field`. Nothing for an atom."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return list(enumerate(value))
    return [(Field(name), part) for name, part in _fields(value).items()]


def rebuilt(value: Any, inner: list[Any]) -> Any:
    """A value of the same kind with other parts, given in the order of `parts`."""
    keys = [key for key, _ in parts(value)]
    if type(value) is dict:
        return dict(zip(keys, inner, strict=True))
    if type(value) in (tuple, list):
        return type(value)(inner)
    if isinstance(value, tuple):  # a named tuple, or one of torch.return_types
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    twin = copy.copy(value)
    for key, part in zip(keys, inner, strict=True):
        if isinstance(key, Field):
            object.__setattr__(twin, key, part)
        else:
            twin[key] = part
    return twin


class Field(str):
    """The name of an attribute, told from a dictionary's key."""

    __slots__ = ()


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, _PLAIN) or callable(value) or f"{type(value).__module__}.".startswith(_OPAQUE):
        return {}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(getattr(value, "__dict__", {}))

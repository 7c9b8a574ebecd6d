"""The operations that can be binarized: which arguments are activation and weight, and how a weight lies in memory.

An operation is recognised by the function or method that is called, never by a module's class.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional


@dataclass(frozen=True)
class Roles:
    """The arguments that are activation and weight.

    `channels` is the axis of the activation over which products are summed, and `outputs` the axis of the weight that
    becomes the channels of the result; None where the call's equation says it.
    """

    activation: str
    weight: str
    channels: int | None
    outputs: int | None


@dataclass(frozen=True)
class Operation:
    """A product of an activation and a weight.

    Of several `roles` the call's own operands decide. `added` is the argument that is added to the product, and
    `spatial` the number of dimensions that a kernel slides over.
    """

    name: str
    arguments: tuple[str, ...]
    roles: tuple[Roles, ...]
    added: str | None = None
    spatial: int = 0

    @property
    def channel(self) -> int:
        """The axis of an activation that counts channels, from the end."""
        return -1 - self.spatial

    def bind(self, node: fx.Node) -> dict[str, Any]:
        """The call's arguments by name, defaults filled in."""
        given = dict(zip(self.arguments, _positional(node), strict=False)) | dict(node.kwargs)
        return {name: given.get(name, _DEFAULTS.get(name)) for name in self.arguments}

    def rebind(self, node: fx.Node, argument: str, value: fx.Node | None) -> None:
        """Replace one argument of a call, and no other use of the same value."""
        index, given = self.arguments.index(argument), _positional(node)
        if index < len(given):
            node.args = (*given[:index], value, *given[index + 1 :])
        else:
            node.update_kwarg(argument, value)


def _positional(node: fx.Node) -> tuple[Any, ...]:
    """The positional arguments; `einsum(equation, [a, b])` is `einsum(equation, a, b)`."""
    if node.target is torch.einsum and len(node.args) == 2 and isinstance(node.args[1], list | tuple):
        return node.args[0], *node.args[1]
    return node.args


_DEFAULTS: dict[str, Any] = {
    "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "beta": 1, "alpha": 1,
}  # fmt: skip


def _convolution(spatial: int) -> Operation:
    arguments = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    return Operation(f"conv{spatial}d", arguments, (Roles("input", "weight", 1, 0),), "bias", spatial)


def _transposed(spatial: int) -> Operation:
    arguments = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    return Operation(f"conv_transpose{spatial}d", arguments, (Roles("input", "weight", 1, 1),), "bias", spatial)


def _matrices(name: str, left: str, right: str, added: str | None = None) -> Operation:
    arguments = (added, left, right, "beta", "alpha") if added else (left, right)
    return Operation(name, arguments, (Roles(left, right, -1, -1), Roles(right, left, -2, -2)), added)


LINEAR = Operation("linear", ("input", "weight", "bias"), (Roles("input", "weight", -1, 0),), "bias")
MATMUL = _matrices("matmul", "input", "other")
MM = _matrices("mm", "input", "mat2")
BMM = _matrices("bmm", "input", "mat2")
ADDMM = _matrices("addmm", "mat1", "mat2", added="input")
BADDBMM = _matrices("baddbmm", "batch1", "batch2", added="input")
GROUPED_MM = Operation("grouped_mm", ("input", "weight", "offs", "bias"), (Roles("input", "weight", -1, -1),), "bias")
"""The rows of each group, up to its entry of `offs`, by the matrix of that group: mixtures of experts."""
EINSUM = Operation(
    "einsum",
    ("equation", "first", "second"),
    (Roles("first", "second", None, None), Roles("second", "first", None, None)),
)

_BY_FUNCTION: dict[Callable[..., Any], Operation] = {
    functional.linear: LINEAR,
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    torch.conv3d: _convolution(3),
    torch.conv_transpose1d: _transposed(1),
    torch.conv_transpose2d: _transposed(2),
    torch.conv_transpose3d: _transposed(3),
    torch.matmul: MATMUL,
    operator.matmul: MATMUL,
    torch.mm: MM,
    torch.bmm: BMM,
    torch.addmm: ADDMM,
    torch.baddbmm: BADDBMM,
    torch.einsum: EINSUM,
    functional.grouped_mm: GROUPED_MM,
    torch._grouped_mm: GROUPED_MM,  # pyright: ignore[reportPrivateImportUsage]
}
_BY_NAME = {"transformers.grouped_mm_fallback": GROUPED_MM}
"""Operators of other libraries, which may not be installed."""
_BY_METHOD = {"matmul": MATMUL, "__matmul__": MATMUL, "mm": MM, "bmm": BMM, "addmm": ADDMM, "baddbmm": BADDBMM}

NAMES = tuple(dict.fromkeys(operation.name for operation in _BY_FUNCTION.values()))
"""What the operations are called."""


def has_bit_form(operation: Operation) -> bool:
    """Whether a file can compute an operation on bits: a linear layer, or a convolution that is not transposed."""
    return operation.name in ("linear", "conv1d", "conv2d", "conv3d")


def of_function(function: Callable[..., Any]) -> Operation | None:
    """The operation that a function of torch, or of a library like it, is; or None."""
    return _BY_FUNCTION.get(function) or _BY_NAME.get(str(function))


def operation_of(node: fx.Node) -> Operation | None:
    """The operation that a node calls, or None. (An `einsum` of three operands is none.)"""
    found = None
    if node.op == "call_method":
        found = _BY_METHOD.get(str(node.target))
    elif node.op == "call_function" and callable(node.target):
        found = of_function(node.target)
    return found if found is not None and len(_positional(node)) <= len(found.arguments) else None

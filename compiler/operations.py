"""The operations that can be binarized: which arguments are activation and weight, and how a weight lies in memory.

An operation is recognised by the function that is called, never by a module's class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional


@dataclass(frozen=True)
class Operation:
    """A product of an activation and a weight, `[outputs, inputs / groups, *kernel]`."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    spatial: int = 0
    """The number of dimensions that the kernel slides over; 0 for a linear operation."""

    @property
    def channel(self) -> int:
        """The axis of an activation that counts channels, from the end."""
        return -1 - self.spatial

    def bind(self, node: fx.Node) -> dict[str, Any]:
        """The call's arguments by name, defaults filled in."""
        given = dict(zip(self.arguments, node.args, strict=False)) | dict(node.kwargs)
        return {name: given.get(name, _DEFAULTS.get(name)) for name in self.arguments}

    def rebind(self, node: fx.Node, argument: str, value: fx.Node | None) -> None:
        """Replace one argument of a call, and no other use of the same value."""
        index = self.arguments.index(argument)
        if index < len(node.args):
            node.update_arg(index, value)
        else:
            node.update_kwarg(argument, value)


_DEFAULTS: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

OPERATIONS = (
    Operation("linear", functional.linear, ("input", "weight", "bias")),
    Operation("conv1d", torch.conv1d, _CONVOLUTION, spatial=1),
    Operation("conv2d", torch.conv2d, _CONVOLUTION, spatial=2),
    Operation("conv3d", torch.conv3d, _CONVOLUTION, spatial=3),
)

_BY_FUNCTION = {operation.function: operation for operation in OPERATIONS}


def operation_of(node: fx.Node) -> Operation | None:
    """The operation that a node calls, or None."""
    if node.op != "call_function" or not callable(node.target):
        return None
    return _BY_FUNCTION.get(node.target)

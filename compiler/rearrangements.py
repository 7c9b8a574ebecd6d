"""Rearrangements: calls whose result holds the entries of one tensor in another order, shape or selection."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from torch import fx

from frostline.compiler.graph import facts

_CALLS = {
    "t", "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "adjoint", "flip",
    "view", "view_as", "reshape", "reshape_as", "flatten", "ravel", "unflatten", "squeeze", "unsqueeze", "expand",
    "expand_as", "broadcast_to", "narrow", "select", "chunk", "split", "tensor_split", "unbind", "repeat",
}  # fmt: skip
SAME = {"contiguous", "to", "float", "type", "type_as"}
"""Calls that change nothing where they keep the type."""

_ATTRIBUTES = {"T", "mT"}


def rearranged(node: fx.Node) -> fx.Node | None:
    """The tensor (or the tuple of parts of one) that a node rearranges, or None where it does anything else."""
    source = node.args[0] if node.args else None
    if node.op not in ("call_function", "call_method") or not isinstance(source, fx.Node):
        return None
    if facts(source).shape is None and rearranged(source) is None:
        return None  # a part of something that is no tensor
    name = called(node)
    others = [other for other in node.all_input_nodes if other is not source]
    if name in SAME:
        return source if facts(node).dtype == facts(source).dtype else None
    if name in ("view_as", "reshape_as", "expand_as"):
        return source
    if any(facts(other).shape is not None for other in others):
        return None  # an index that is a tensor
    if node.target is getattr:
        return source if node.args[1] in _ATTRIBUTES else None
    return source if name in _CALLS or node.target is operator.getitem else None


def called(node: fx.Node) -> str:
    """The name of the function or method that a node calls; empty where it calls none."""
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def root_of(node: fx.Node) -> fx.Node:
    """The value that a chain of rearrangements starts from; the node itself where it is none."""
    return next(iter(chain_to(node)))


def chain_to(node: fx.Node) -> tuple[fx.Node, ...]:
    """A node's root, and the rearrangements from there up to the node itself."""
    return tuple(reversed(list(_back(node))))


def _back(node: fx.Node) -> Iterator[fx.Node]:
    here: fx.Node | None = node
    while here is not None:
        yield here
        here = rearranged(here)


def is_constant(node: fx.Node) -> bool:
    """Whether a rearrangement is the same for every input of the model."""
    return called(node) in SAME or all(source is node.args[0] for source in node.all_input_nodes)

"""Max pooling: it selects entries, so that it keeps what is integer or two-valued, and any rising function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from frostline.compiler.graph import Graph, facts
from frostline.compiler.rearrangements import rearranged

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.max_pool1d: torch.max_pool1d, functional.max_pool1d: torch.max_pool1d,
    torch.max_pool2d: torch.max_pool2d, functional.max_pool2d: torch.max_pool2d,
    torch.max_pool3d: torch.max_pool3d, functional.max_pool3d: torch.max_pool3d,
}  # fmt: skip
_MODULES: dict[type[nn.Module], Callable[..., Any]] = {
    nn.MaxPool1d: torch.max_pool1d, nn.MaxPool2d: torch.max_pool2d, nn.MaxPool3d: torch.max_pool3d,
}  # fmt: skip
_DEFAULTS = {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}


def max_pool_of(node: fx.Node, graph: Graph) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """What a max pooling calls, whatever its spelling: the function of torch, and its arguments after the input.

    None for anything else, and where a window is dilated: then it may lie in the padding alone. Others never do:
    padding is at most half a window, and a window begins in the input or the padding before it.
    """
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        function = _MODULES.get(type(module))
        given = {name: getattr(module, name, None) for name in _DEFAULTS}
    else:
        function = _FUNCTIONS.get(node.target)
        named = {name: value for name, value in node.kwargs.items() if name in _DEFAULTS}
        given = _DEFAULTS | dict(zip(_DEFAULTS, node.args[1:], strict=False)) | named
    if function is None or facts(node).shape is None or not isinstance(node.args[0] if node.args else None, fx.Node):
        return None
    if any(each != 1 for each in _each(given["dilation"])):
        return None
    return function, tuple({**given, "stride": given["stride"] or given["kernel_size"]}.values())


def selected(node: fx.Node) -> fx.Node | None:
    """The tensor of which a node rearranges entries, or takes the largest of each window; else None."""
    source = node.args[0] if node.op == "call_function" and node.target in _MODULES.values() else None
    return source if isinstance(source, fx.Node) and facts(node).shape is not None else rearranged(node)


def origin_of(node: fx.Node) -> fx.Node:
    """The value that a chain of rearrangements and max poolings starts from; the node itself where it is none."""
    source = selected(node)
    return node if source is None else origin_of(source)


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else (value,)

"""Which values can never be negative: their sign is +1 whatever the input, so that binarizing them loses everything."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn import functional

from frostline.compiler.flow import written
from frostline.compiler.graph import Graph

_MODULES = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Hardsigmoid)
_NAMES = {
    "relu", "relu_", "relu6", "sigmoid", "sigmoid_", "softmax", "softplus", "hardsigmoid", "abs", "square", "exp",
}  # fmt: skip
_KEEPING_MODULES = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample,
)  # fmt: skip
_KEEPING_NAMES = {
    "max_pool1d", "max_pool2d", "boolean_dispatch", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "flatten",
    "view", "reshape", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "dropout", "mean", "sum", "pad",
    "interpolate", "getitem", "cat", "stack",
}  # fmt: skip
_ADDING = {operator.add, operator.mul, torch.add, torch.mul, "add", "mul"}


def never_negative(node: fx.Node, graph: Graph) -> bool:
    """Whether a value follows from ReLU, softmax and their like through nothing that could make it negative."""
    module = graph.module
    waiting, seen = [node], {node}
    while waiting:
        here = waiting.pop()
        if any(written(user, graph) is here and not _makes(user, module) for user in here.users):
            return False  # it is changed in place, and may then be anything
        if _makes(here, module):
            continue
        if not _keeps(here, module):
            return False
        sources = here.all_input_nodes
        if not sources:
            return False
        new = [source for source in sources if source not in seen]
        seen.update(new)
        waiting += new
    return True


def _makes(node: fx.Node, module: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), _MODULES)
    return node.op in ("call_function", "call_method") and _name(node) in _NAMES


def _keeps(node: fx.Node, module: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), _KEEPING_MODULES)
    if node.target in _ADDING:
        return all(isinstance(argument, fx.Node) for argument in node.args[:2])
    if node.target in (functional.max_pool2d, functional.max_pool1d):
        return True
    return node.op in ("call_function", "call_method") and _name(node) in _KEEPING_NAMES


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")

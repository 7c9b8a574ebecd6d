"""Which modules stay one node, and which are opened so that their operations are seen."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.conv import _ConvNd

OPENED = (nn.Linear, _ConvNd, nn.MultiheadAttention)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def stays_whole(module: nn.Module) -> bool:
    """Whether a module is one node: torch's own childless modules and their subclasses, which know their mode."""
    childless = next(module.children(), None) is None
    kinds = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    torchs = any(kind.__module__.startswith("torch.nn.modules") for kind in kinds)
    return childless and torchs and not isinstance(module, (*OPENED, *_CONTAINERS))


def check_hooks(model: nn.Module, whole: Callable[[nn.Module], bool]) -> None:
    """Raise TypeError where a module that is opened has backward hooks: nothing in a graph would call them."""
    for path, module in model.named_modules():
        if not whole(module) and (module._backward_hooks or module._backward_pre_hooks):
            raise TypeError(f"the backward hooks of {path or 'the model'} would be lost")

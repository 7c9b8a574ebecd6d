"""Nets: modules that run a graph, in train mode another one if need be, and hold all that a tree of modules holds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import fx, nn

from frostline.compiler.masks import Mask
from frostline.errors import Offence, UsageError

_deepcopy: Any = torch.Tensor.__deepcopy__


@dataclass(frozen=True)
class Modes:
    """What train mode is for a net: the graph that runs in it, if it is another one than in eval mode; the flags of
    submodules that `train(mode)` leaves at another value than `mode`, by mode and path; and why it cannot run, if so.
    """

    training: fx.Graph | None = None
    flags: Mapping[bool, Mapping[str, bool]] = field(default_factory=dict)
    refused: str = ""

    def copied(self, memo: dict[int, Any] | None = None) -> Modes:
        """The same modes with a copy of the graph."""
        return self if self.training is None else replace(self, training=copy.deepcopy(self.training, memo))


class Net(fx.GraphModule):
    """A GraphModule that keeps every name of the model through `deepcopy`, also those that the graph does not use.

    It may hold a second graph for train mode, over the same parameters, buffers and masks.
    """

    modes = Modes()
    original: tuple[nn.Module, ...] = ()
    _ignored: tuple[str, ...] = ()

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What DistributedDataParallel does not broadcast: what a user says, and the masks, which each rank turns."""
        return [*self._ignored, *mask_buffers(self)]

    @_ddp_params_and_buffers_to_ignore.setter
    def _ddp_params_and_buffers_to_ignore(self, names: Iterable[str]) -> None:
        self._ignored = tuple(names)

    def stands_for(self, original: nn.Module) -> None:
        """Take over another module's attributes and methods, which Python outside of the graph may ask for."""
        self.original = (original,)
        for name, value in vars(original).items():
            self.__dict__.setdefault(name, value)
        kinds = [kind for kind in type(original).__mro__ if not issubclass(nn.Module, kind)]
        for name, value in ((n, v) for kind in kinds for n, v in vars(kind).items()):
            if not hasattr(type(self), name):
                setattr(type(self), name, value)  # a net has a class of its own

    def recompile(self) -> Any:
        code = super().recompile()
        if "__call__" in vars(type(self)):
            del type(self).__call__  # fx's own prints every error that passes through it
        evaluate = type(self).forward
        if self.modes.refused:
            type(self).forward = _either(evaluate, _refusal(self.modes.refused))
        elif self.modes.training is not None:
            other = fx.GraphModule(nn.Module(), fx.Graph())
            other.graph = self.modes.training
            self.modes.training.owning_module = self
            type(self).forward = _either(evaluate, type(other).forward)
        graphs = [graph for graph in (self.graph, self.modes.training) if graph is not None]
        if any(node.target in _SWITCHES for graph in graphs for node in graph.nodes if node.op == "call_function"):
            type(self).forward = _restoring(type(self).forward)
        return code

    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        for path, flag in self.modes.flags.get(mode, {}).items():
            self.get_submodule(path).training = flag
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Net:
        memo = {} if memo is None else memo
        tree = copy.deepcopy(share(self), memo)
        twin = assemble(tree, copy.deepcopy(self.graph, memo), self.training, self.modes.copied(memo))
        for original in self.original:
            twin.stands_for(copy.deepcopy(original, memo))
        twin._ignored = self._ignored
        return twin


def mask_buffers(module: nn.Module) -> Iterator[str]:
    """The names of the buffers of all masks inside of a module."""
    for path, mask in module.named_modules():
        if isinstance(mask, Mask):
            yield from (f"{path}.{name}" for name, _ in mask.named_buffers())


def modes_of(module: nn.Module) -> Modes:
    """The modes of a net; the plain ones for any other module."""
    return module.modes if isinstance(module, Net) else Modes()


def _either(evaluate: Callable[..., Any], train: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(evaluate)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (train if self.training else evaluate)(self, *args, **kwargs)

    return forward


_FUNCTORCH: Any = vars(torch._C)["_functorch"]
_SWITCHES: tuple[Any, ...] = (
    torch.is_grad_enabled,
    torch.amp.autocast_mode._enter_autocast,
    _FUNCTORCH._vmap_increment_nesting,
)
"""What a graph calls at the beginning of `with` blocks, to undo it at their end."""


def _restoring(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that leaves torch's modes as they were when it raises: a graph knows no `with`."""

    @functools.wraps(forward)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gradients, level = torch.is_grad_enabled(), _FUNCTORCH.maybe_current_level()
        autocast = {device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda")}
        try:
            return forward(self, *args, **kwargs)
        except BaseException:
            torch._C._set_grad_enabled(gradients)
            for device, enabled in autocast.items():
                torch.set_autocast_enabled(device, enabled)
            while (_FUNCTORCH.maybe_current_level() or 0) > (level or 0):
                _FUNCTORCH._vmap_decrement_nesting()
            raise

    return run


def _refusal(reason: str) -> Callable[..., Any]:
    def refuse(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        what = f"the model itself did not run in train mode on its example: {reason}"
        raise UsageError("the net was captured in eval mode only", [Offence(what, remedy="capture with an example")])

    return refuse


def assemble(tree: nn.Module, graph: fx.Graph, training: bool, modes: Modes | None = None) -> Net:
    """A module that runs a graph and holds all that a tree of modules holds, names and their order included."""
    net = Net(nn.Module(), fx.Graph())
    net.modes = modes or Modes()
    for name, child in tree._modules.items():
        net.add_module(name, child)
    for name, parameter in tree._parameters.items():
        net.register_parameter(name, parameter)
    for name, buffer in tree._buffers.items():
        net.register_buffer(name, buffer, persistent=name not in tree._non_persistent_buffers_set)
    net.graph = graph
    net.training = training
    return net


def duplicate(module: Any, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy, also of a module that keeps computed tensors, as the hooks of weight norm do."""
    with patch.object(torch.Tensor, "__deepcopy__", _copied):
        return copy.deepcopy(module, memo)


def _copied(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """A copy of a tensor, without its history if it has one."""
    if tensor.is_leaf:
        return cast(torch.Tensor, _deepcopy(tensor, memo))
    twin = memo[id(tensor)] = tensor.detach().clone()
    return twin


def _computed(module: nn.Module) -> dict[str, torch.Tensor]:
    """The attributes of a module that are tensors with a history, which nothing copies."""
    return {n: t for n, t in vars(module).items() if isinstance(t, torch.Tensor) and not t.is_leaf}


def share(module: nn.Module) -> nn.Module:
    """The same tree of modules over the same tensors: flags and children of its own, aliases kept."""
    return _share(module, {})


def _share_inner(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done or not isinstance(module, Net):
        return _share(module, done)
    tree, graph = _share(module, done), copy.deepcopy(module.graph)
    twin = done[id(module)] = assemble(tree, graph, module.training, module.modes.copied())
    for original in module.original:
        twin.stands_for(original)
    return twin


def _share(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    if isinstance(module, fx.GraphModule):
        twin = nn.Module()
        twin.training = module.training
    else:
        twin = module.__class__.__new__(module.__class__)
        twin.__dict__.update(module.__dict__)
        twin.__dict__.update({name: tensor.detach() for name, tensor in _computed(module).items()})
    done[id(module)] = twin
    twin._parameters = dict(module._parameters)
    twin._buffers = dict(module._buffers)
    twin._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    children = {name: None if child is None else _share_inner(child, done) for name, child in module._modules.items()}
    twin._modules = children
    return twin

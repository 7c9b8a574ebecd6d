"""What torch tells no function mode: modules, autograd functions, autocast, vmap, and who asks for a compiler."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch._export.utils
import torch.utils.checkpoint
from torch import nn
from torch.fx.experimental import symbolic_shapes

from frostline.compiler.capture.leaves import stays_whole
from frostline.compiler.capture.tape import ON_VALUES, Tape
from frostline.compiler.capture.targets import applied


@contextmanager
def intercepted(tape: Tape) -> Iterator[None]:
    """Within this context modules and autograd functions that run are written on the tape."""
    with ExitStack() as stack:
        for owner, name, value in (
            (nn.Module, "__call__", _module_call(tape)),
            (nn.Module, "_apply", _module_apply()),
            (torch.autograd.Function, "apply", _function_apply(tape)),
            (torch.amp.autocast_mode.autocast, "__enter__", _autocast_enter(tape)),
            (torch.amp.autocast_mode.autocast, "__exit__", _autocast_exit(tape)),
            (
                torch._export.utils,
                "_maybe_find_pre_dispatch_tf_mode_for_export",
                lambda: _recording() and tape,
            ),
            (torch.SymBool, "__bool__", _condition(tape)),
            (symbolic_shapes, "uninteresting_files", _not_theirs()),
            (builtins, "len", _length()),
            # Many models then take a branch that can be followed.
            (torch.compiler, "_is_compiling_flag", True),
            (torch.compiler, "_is_exporting_flag", True),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield


def _recording() -> bool:
    return torch._C._is_torch_function_mode_enabled()


def _condition(tape: Tape) -> Any:
    run: Any = torch.SymBool.__bool__

    def ask(value: torch.SymBool) -> bool:
        try:
            return bool(run(value))
        except ON_VALUES:
            passes = tape.check(value) if _recording() else None
            if passes is None:
                raise
            return passes

    return ask


def _not_theirs() -> Any:
    """A guard names the line that asked; what asks here is no user's."""
    files = symbolic_shapes.uninteresting_files() | {__file__}
    return lambda: files


def _length() -> Any:
    """`len(x)` must be a number for Python; the size of `x` may be a symbol."""
    run = builtins.len

    def length(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and _recording() and value.dim():
            return value.size(0)
        return run(value)

    return length


def _module_call(tape: Tape) -> Any:
    run = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not _recording():
            return run(module, *args, **kwargs)
        path = tape.modules.get(id(module))
        if path and stays_whole(module):  # a graph cannot call the model itself
            with torch._C.DisableTorchFunction():
                result = run(module, *args, **kwargs)
            tape.call_module(path, args, kwargs, result)
            return result
        tape.path.append(tape.path[-1] if path is None else path)
        try:
            return run(module, *args, **kwargs)
        finally:
            tape.path.pop()

    return call


def _module_apply() -> Any:
    run: Any = nn.Module._apply

    def apply(module: nn.Module, convert: Any, recurse: bool = True) -> Any:
        """`module.to(dtype)` in a forward: nothing to record where it changes nothing."""
        if not _recording():
            return run(module, convert, recurse)
        with torch._C.DisableTorchFunction():
            for tensor in (*module.parameters(recurse), *module.buffers(recurse)):
                converted = convert(tensor)
                if (converted.dtype, converted.device) != (tensor.dtype, tensor.device):
                    raise TypeError("the forward moves the parameters of a module to another dtype or device")
        return module

    return apply


def _function_apply(tape: Tape) -> Any:
    run: Any = torch.autograd.Function.__dict__["apply"].__func__

    def apply(kind: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        if not _recording():
            return run(kind, *args, **kwargs)
        if kind is torch.utils.checkpoint.CheckpointFunction:
            function, _, *given = args
            return function(*given)
        with torch._C.DisableTorchFunction():
            result = run(kind, *args, **kwargs)
        tape.call(applied(kind), args, kwargs, result)
        return result

    return classmethod(apply)


def _autocast_enter(tape: Tape) -> Any:
    run: Any = torch.amp.autocast_mode.autocast.__enter__

    def enter(region: Any) -> Any:
        if _recording():
            values = region.device, region.fast_dtype, region._enabled, region._cache_enabled
            region.frostline_node = tape.effect(torch.amp.autocast_mode._enter_autocast, *values)
        with torch._C.DisableTorchFunction():
            return run(region)

    return enter


def _autocast_exit(tape: Tape) -> Any:
    run: Any = torch.amp.autocast_mode.autocast.__exit__

    def leave(region: Any, *error: Any) -> Any:
        if _recording() and hasattr(region, "frostline_node"):
            tape.effect(torch.amp.autocast_mode._exit_autocast, region.frostline_node)
        with torch._C.DisableTorchFunction():
            return run(region, *error)

    return leave

"""The recorder: the model runs once on fake tensors, in eval and in train mode, and every torch call becomes a node.

Python runs as it is, so that control flow on shapes and flags, functional calls and containers of any kind are taken as
the model means them. Tensors carry no values: a branch on one cannot be followed. The batch size is a symbol, which
reaches the graph as arithmetic on `x.size(0)`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from frostline.compiler.capture import interception
from frostline.compiler.capture.leaves import check_hooks, stays_whole
from frostline.compiler.capture.signature import inputs_of
from frostline.compiler.capture.tape import Tape
from frostline.compiler.capture.traced import Traced, same
from frostline.compiler.capture.user_line import is_users, shown_line
from frostline.compiler.graph import Example
from frostline.compiler.net import duplicate

_PRIMES = (101, 211, 307, 401, 503, 601, 701)
_SIZES = range(2, 1025)
"""Batch sizes for which the forward must go the same way; that of one is proven."""


class Recorder:
    """Front end `recorder`."""

    name = "recorder"

    def trace(self, model: nn.Module, example: Example) -> Traced:
        """The graphs of a model's forward in eval and in train mode; one, where they are the same.

        Raises TypeError where a graph would be wrong in silence.
        """
        check_hooks(model, stays_whole)
        evaluating = record(duplicate(model).eval(), model, example)
        try:
            training = record(duplicate(model).train(), model, example)
        except Exception:
            if _runs(duplicate(model).train(), example):
                raise
            return Traced(evaluating)
        return Traced(evaluating, None if same(evaluating, training) else training)


def _runs(model: nn.Module, example: Example) -> bool:
    try:
        model(*example.args, **example.kwargs)
    except Exception:
        return False
    return True


def record(twin: nn.Module, holder: nn.Module, example: Example) -> fx.Graph:
    """The calls of one forward of `twin`, a copy that is thrown away.

    Tensors that belong to no module are left as attributes of `holder`.
    """
    shapes = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    fakes = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    hint = _hint(twin, example)
    symbol = shapes.create_symbol(hint, source=ConstantSource("batch"), dynamic_dim=DimDynamic.DYNAMIC)
    batch = shapes.create_symintnode(symbol, hint=hint, source=ConstantSource("batch"))
    _fake_state(twin, fakes)
    own = example.batch_size()
    tape = Tape(twin, holder, shapes, {symbol: own or 1})
    args, kwargs = inputs_of(twin, example.mapped(lambda t: _fake(t, fakes, batch, own)), tape)
    with ExitStack() as stack:
        stack.enter_context(enable_python_dispatcher())
        stack.enter_context(fakes)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(interception.intercepted(tape))
        stack.enter_context(tape)
        result = twin(*args, **kwargs)
    tape.finish(result)
    if tape.asked:
        raise tape.asked[0]
    for guard in shapes.guards:
        line = _line(guard)
        ours = guard.expr.free_symbols == {symbol} and (line or symbol in shapes.replacements)
        if ours and not all(guard.expr.subs(symbol, size) for size in _SIZES):
            raise TypeError(f"the forward needs the batch size as a number{f', at {line}' if line else ''}")
    return tape.graph


def _line(guard: Any) -> str | None:
    """The user's line that asked for the size, if it was one of theirs."""
    frame = guard.sloc.framework_loc
    if not hasattr(frame, "filename") or not is_users(frame.filename):
        return None
    return shown_line(frame.filename, frame.lineno)


def _hint(model: nn.Module, example: Example) -> int:
    """A batch size that is no other size of the model or its inputs, so that none is mistaken for it."""
    sizes = {size for tensor in (*model.parameters(), *model.buffers()) for size in tensor.shape}
    return next(prime for prime in _PRIMES if prime not in sizes)


def _fake(tensor: Tensor, fakes: FakeTensorMode, batch: Any, own: int | None) -> Tensor:
    if tensor.dim() and tensor.shape[0] == own:
        with fakes:
            fake = torch.empty((batch, *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device)
        return fake.requires_grad_(tensor.requires_grad)
    return fakes.from_tensor(tensor.detach().clone().requires_grad_(tensor.requires_grad), static_shapes=True)


def _fake_state(model: nn.Module, fakes: FakeTensorMode) -> None:
    """All parameters and buffers as fake tensors; aliases stay aliases."""
    for module in model.modules():
        states: tuple[Any, ...] = (module._parameters, module._buffers)
        for held in states:
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = fakes.from_tensor(tensor, static_shapes=True)

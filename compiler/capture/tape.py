"""The tape: a torch function mode that writes every call it sees as an fx node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, count
from types import MethodDescriptorType, WrapperDescriptorType
from typing import Any
from unittest.mock import patch

import numpy as np
import sympy  # type: ignore[import-untyped]
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv, free_unbacked_symbols
from torch.fx.proxy import GraphAppendingTracer
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from frostline.compiler.capture.checks import holds, passing
from frostline.compiler.capture.targets import Maker, closed, printable, register_hook, switch_gradients, update
from frostline.compiler.capture.user_line import calling_line, user_frames
from frostline.compiler.graph import Facts, facts, set_facts
from frostline.compiler.tensors import Field, holds_tensor, parts, rebuilt

ON_VALUES = (GuardOnDataDependentSymNode, DataDependentOutputException)
"""What torch raises where Python asks a fake tensor for a value."""
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_OPERATORS: dict[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem, "__setitem__": operator.setitem, "__invert__": operator.invert,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor, "__pow__": operator.pow,
    "__floordiv__": operator.floordiv, "__mod__": operator.mod, "__truediv__": operator.truediv,
    "__iadd__": operator.iadd, "__isub__": operator.isub, "__imul__": operator.imul, "__itruediv__": operator.itruediv,
    "__eq__": operator.eq, "__ne__": operator.ne, "__lt__": operator.lt, "__le__": operator.le, "__gt__": operator.gt,
    "__ge__": operator.ge,
}  # fmt: skip
_REFLECTED: dict[str, Callable[..., Any]] = {
    "__radd__": operator.add, "__rsub__": operator.sub, "__rmul__": operator.mul, "__rtruediv__": operator.truediv,
    "__rdiv__": operator.truediv, "__rpow__": operator.pow, "__rfloordiv__": operator.floordiv,
    "__rmod__": operator.mod, "__rmatmul__": operator.matmul,
}  # fmt: skip
_SILENT = {"backward", "retain_grad", "_assert", "_check", "is_grad_enabled", "__dir__"}
"""Calls that compute nothing that the graph needs."""
_EFFECTS = {"_vmap_increment_nesting", "_vmap_decrement_nesting", "register_hook"}
"""Calls that return no tensor and are made for what they change."""


class Tape(TorchFunctionMode):
    """Records into `graph`. While a call runs, nothing inside of it is recorded.

    `model` runs on fake tensors; `holder` keeps, as attributes, the real tensors that belong to no module. `batch` is
    the symbol of the batch size, with the example's own.
    """

    def __init__(self, model: nn.Module, holder: nn.Module, shapes: ShapeEnv, batch: Mapping[Any, int]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.modules = {
            id(module): name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))
        }
        self.path: list[str] = [""]
        self.asked: list[Exception] = []
        """Where Python asked for a value, which no fake tensor has."""
        self._holder = holder
        self._model = model
        self._shapes = shapes
        self._batch = batch
        self._tracer = GraphAppendingTracer(self.graph)
        self._nodes: dict[int, fx.Node] = {}
        self._gradients: fx.Node | None = None
        self._alive: list[Any] = []
        self._symbols: dict[sympy.Symbol, Callable[[], fx.Node]] = {}
        self._numbers: dict[Any, fx.Node] = {}
        named = chain(model.named_parameters(), model.named_buffers())
        self._state = {id(tensor): (name, tensor) for name, tensor in named}
        self._buffers = [
            (f"{path}.{name}" if path else name, module, name, buffer)
            for path, module in model.named_modules()
            for name, buffer in module._buffers.items()
        ]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            # Its Python runs, so that its projections are seen.
            with patch.object(functional, "has_torch_function", lambda *_: False), self:
                return func(*args, **kwargs)
        try:
            result = func(*args, **kwargs)
        except ON_VALUES as error:
            if getattr(func, "__name__", "") == "__bool__" and (passes := self.check(args[0])) is not None:
                return passes
            self.asked.append(error)  # the forward may catch it, and go on
            raise
        if any(self._shapes.simplify(symbol).is_number for symbol in self._batch):
            raise RuntimeError("the forward needs the batch size as a number")  # torch swallows a TypeError
        self.call(func, args, kwargs, result)
        return result

    def check(self, value: Any) -> bool | None:
        """Write a check of a condition of which one outcome only raises, and return the other; None if both go on."""
        passes = passing(list(user_frames()))
        if passes is not None:
            self.effect(holds, self.argument(value), passes, calling_line())
        return passes

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Write a call that was made, and note what it returned."""
        name = getattr(func, "__name__", "")
        if func is torch._C._set_grad_enabled:
            self._gradients = self._gradients or self.effect(torch.is_grad_enabled)
            self.effect(switch_gradients, args[0], self._gradients)
            return
        if name == "__get__":
            if isinstance(result, Tensor):
                attribute = func.__self__.__name__  # type: ignore[attr-defined]
                self._write("call_function", getattr, (args[0], attribute), {}, result)
            return
        if name == "__set__":
            attribute = func.__self__.__name__  # type: ignore[attr-defined]
            self._write("call_function", setattr, (args[0], attribute, args[1]), {}, None)
            return
        changes = (result is None and name not in _SILENT) or name in _EFFECTS
        if not changes and not holds_tensor(result) and not self._unbacked(result):
            return
        if name == "register_hook":
            self._write("call_function", register_hook, args, kwargs, None)
        elif name in _REFLECTED:
            self._write("call_function", _REFLECTED[name], (args[1], args[0]), kwargs, result)
        elif not _is_method(func):
            self._write("call_function", func, args, kwargs, result)
        elif name in _OPERATORS:
            self._write("call_function", _OPERATORS[name], args, kwargs, result)
        else:
            self._write("call_method", name, args, kwargs, result)

    def call_module(self, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Write the call of a module that stays whole."""
        self._write("call_module", path, args, kwargs, result)

    def placeholder(self, name: str, default: Any = ...) -> fx.Node:
        """An input; a default makes it optional."""
        arguments = () if default is ... else (default,)
        return self._node("placeholder", name, arguments, {})

    def inputs(self) -> Iterator[fx.Node]:
        """The tensors that were noted so far."""
        return (self._nodes[id(tensor)] for tensor in self._alive)

    def unpack(self, node: fx.Node, value: Any) -> None:
        """Note the tensors inside of a node's value, with a node for each part on the way to one."""
        if isinstance(value, Tensor):
            self._note(node, value)
            return
        for key, part in parts(value):
            if holds_tensor(part) or self._unbacked(part):
                take = getattr if isinstance(key, Field) else operator.getitem
                plain = str(key) if isinstance(key, Field) else key
                self.unpack(self._node("call_function", take, (node, plain), {}), part)

    def effect(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        """Write a call for its effect; what it returns is no tensor."""
        return self._node("call_function", function, args, {})

    def finish(self, result: Any) -> None:
        """Buffers that the forward replaced are copied back, and the result is returned."""
        for path, module, name, before in self._buffers:
            after = module._buffers.get(name)
            if after is before:
                continue
            if not isinstance(after, Tensor) or before is None or after.shape != before.shape:
                raise TypeError(f"the forward replaces the buffer {path} by {_kind(after)}")
            self._node("call_function", update, (self._attribute(path), self.argument(after)), {})
        for name, parameter in self._model.named_parameters():
            if id(parameter) not in self._state:
                raise TypeError(f"the forward replaces the parameter {name}")
        self.graph.output(self._output(result))

    def argument(self, value: Any) -> Any:
        """A value as an argument of a node: tensors and symbolic numbers become nodes."""
        if isinstance(value, Tensor):
            return self._nodes[id(value)] if id(value) in self._nodes else self._outside(value)
        if isinstance(value, _SYMBOLIC):
            return self._number(value)
        if isinstance(value, torch.Size):
            return tuple(map(self.argument, value))
        if isinstance(value, (tuple, list)):
            inner = [self.argument(part) for part in value]
            return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
        if isinstance(value, dict):
            return {key: self.argument(part) for key, part in value.items()}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, slice):
            return slice(self.argument(value.start), self.argument(value.stop), self.argument(value.step))
        return value

    def _write(self, op: str, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        given = self.argument(tuple(args)), self.argument(dict(kwargs))
        if not all(printable(part) for part in (*given[0], *given[1].values())):
            target, op, given = closed(target, op, *given)
        node = self._node(op, target, *given)
        if isinstance(result, _SYMBOLIC):
            self._bind(result.node.expr, lambda: node)
        else:
            self.unpack(node, result)

    def _node(self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        node = self.graph.create_node(op, target, args, kwargs)
        return set_facts(node, Facts(where=calling_line(), path=self.path[-1]))

    def _note(self, node: fx.Node, tensor: Tensor) -> None:
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)  # or its id would be given to another
        self._describe(node, tensor)
        for dimension, size in enumerate(tensor.shape):
            if isinstance(size, torch.SymInt):
                self._bind(size.node.expr, lambda d=dimension: self._node("call_method", "size", (node, d), {}))

    def _describe(self, node: fx.Node, tensor: Tensor) -> fx.Node:
        """Note the shape for the example's own batch, and the axes that follow the batch or a value."""
        moving = tuple(axis for axis, size in enumerate(tensor.shape) if isinstance(size, torch.SymInt))
        shape = tuple(self._size(size) for size in tensor.shape)
        return set_facts(node, replace(facts(node), shape=shape, dtype=tensor.dtype, batch=moving))

    def _size(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        known = size.node.expr.subs(self._batch)
        return int(known) if known.is_number else 1  # a size that depends on values

    def _bind(self, expression: Any, make: Callable[[], fx.Node]) -> None:
        if isinstance(expression, sympy.Symbol):
            self._symbols.setdefault(expression, make)

    def _number(self, value: Any) -> Any:
        expression = self._shapes.simplify(value.node.expr)
        if expression.is_number or expression in (sympy.true, sympy.false):
            return bool(expression) if isinstance(value, torch.SymBool) else value.node.pytype(expression)
        if expression not in self._numbers:
            proxies = {symbol: fx.Proxy(self._symbol(symbol), self._tracer) for symbol in expression.free_symbols}
            self._numbers[expression] = sympy_interp(PythonReferenceAnalysis, proxies, expression).node
        return self._numbers[expression]

    def _symbol(self, symbol: sympy.Symbol) -> fx.Node:
        if symbol not in self._numbers:
            if symbol not in self._symbols:
                raise TypeError(f"the number {symbol} comes from no tensor of the graph")
            self._numbers[symbol] = self._symbols[symbol]()
        return self._numbers[symbol]

    def _outside(self, tensor: Tensor) -> fx.Node:
        """A tensor that no recorded call made: of the model's state, or one that lies around in Python."""
        if id(tensor) in self._state:
            name, _ = self._state[id(tensor)]
        elif isinstance(tensor, FakeTensor):
            raise TypeError("a tensor was made where it cannot be seen: inside of a call, or kept from another")
        else:
            name = self._constant(tensor)
        node = self._nodes[id(tensor)] = self._attribute(name)
        self._alive.append(tensor)
        return self._describe(node, tensor)

    def _attribute(self, name: str) -> fx.Node:
        return self._node("get_attr", name, (), {})

    def _constant(self, tensor: Tensor) -> str:
        """The name of the attribute of `holder` that keeps a tensor; equal ones are kept once."""
        for name in (f"_constant_{index}" for index in count()):
            held = getattr(self._holder, name, None)
            if held is None:
                setattr(self._holder, name, tensor.detach())
                return name
            if held.dtype == tensor.dtype and torch.equal(held, tensor):
                return name
        raise AssertionError  # there is always another name

    def _output(self, value: Any) -> Any:
        if isinstance(value, (Tensor, *_SYMBOLIC)) or not holds_tensor(value):
            return self.argument(value)
        inner = parts(value)
        if type(value) in (tuple, list, dict):
            return rebuilt(value, [self._output(part) for _, part in inner])
        made = Maker(value, [holds_tensor(part) for _, part in inner])
        given = tuple(self._output(part) for _, part in inner if holds_tensor(part))
        return self._node("call_function", made, given, {})

    def _unbacked(self, value: Any) -> bool:
        return isinstance(value, _SYMBOLIC) and bool(free_unbacked_symbols(value))


def _is_method(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    if isinstance(func, (MethodDescriptorType, WrapperDescriptorType)):
        return True
    owner = getattr(func, "__qualname__", "").partition(".")[0]
    return getattr(Tensor, name, None) is func or (owner in ("Tensor", "TensorBase") and hasattr(Tensor, name))


def _kind(value: object) -> str:
    return f"one of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"

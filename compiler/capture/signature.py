"""The inputs of a graph: the same names, order and defaults as the model's own forward."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn

from frostline.compiler.capture.tape import Tape
from frostline.compiler.graph import Example, facts
from frostline.compiler.tensors import holds_tensor
from frostline.errors import Offence, UsageError

_LITERAL = (type(None), bool, int, float, str)


def inputs_of(model: nn.Module, example: Example, tape: Tape) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Write a placeholder for every argument of a model's forward, and return those of the example to call it with.

    Arguments that are no tensors, given or left to their defaults, are baked into the graph; it checks that they are
    what they were. Raises TypeError when the example does not fit the signature.
    """
    signature = inspect.signature(model.forward)
    bound = signature.bind(*example.args, **example.kwargs)
    given: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    gathers = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            gathered = bound.arguments.get(name, ())
            gathers = bool(gathered)
            given |= {f"{name}_{index}": value for index, value in enumerate(gathered)}
        elif parameter.kind is parameter.VAR_KEYWORD:
            given |= bound.arguments.get(name, {})
        else:
            if isinstance(parameter.default, _LITERAL):
                defaults[name] = parameter.default
            if name in bound.arguments:
                given[name] = bound.arguments[name]
            elif name in defaults:
                given[name] = defaults[name]
    baked: dict[str, Any] = {}
    optional = False
    nodes = {}
    for name in given:
        optional = not gathers and (optional or name in defaults)
        nodes[name] = tape.placeholder(name, defaults.get(name)) if optional else tape.placeholder(name)
    for name, value in given.items():
        if holds_tensor(value):
            tape.unpack(nodes[name], value)
        elif isinstance(value, _LITERAL):
            baked[name] = value
    if baked:
        tape.effect(unchanged, {name: nodes[name] for name in baked}, baked)
    inputs = list(dict.fromkeys(tape.inputs()))
    tape.effect(fitting, tuple(inputs), tuple(map(_layout, inputs)))
    return bound.args, bound.kwargs


def _layout(node: fx.Node) -> tuple[Any, ...]:
    known = facts(node)
    sizes = [None if axis in known.batch else size for axis, size in enumerate(known.shape or ())]
    return str(node.name), tuple(sizes), known.dtype


def fitting(given: tuple[Tensor, ...], layouts: tuple[tuple[str, tuple[int | None, ...], torch.dtype], ...]) -> None:
    """Raise UsageError for every input that has another type or size than at capture, where both are baked in.

    The batch, None in a layout, is free, but it is the same for all.
    """
    offences = []
    batches: dict[str, int] = {}
    for tensor, (name, sizes, dtype) in zip(given, layouts, strict=True):
        if not isinstance(tensor, Tensor):
            offences.append(Offence(f"{name} is {_shown(tensor)}, and was a tensor", remedy="capture without it"))
            continue
        pairs = list(zip(tensor.shape, sizes, strict=False))
        if len(sizes) != tensor.dim() or any(size is not None and size != own for own, size in pairs):
            shown = ", ".join("batch" if size is None else str(size) for size in sizes)
            what = f"{name} is {list(tensor.shape)}, and was [{shown}]"
            offences.append(Offence(what, remedy="capture with this size"))
        elif tensor.dtype != dtype:
            offences.append(Offence(f"{name} is {tensor.dtype}, and was {dtype}", remedy="capture with this type"))
        batches.update((name, own) for own, size in pairs if size is None)
    if not offences and any(size != next(iter(batches.values())) for size in batches.values()):
        offences = [Offence(f"{each} has a batch of {size}") for each, size in batches.items()]
    if offences:
        raise UsageError("the graph was captured for other inputs", offences)


def unchanged(given: dict[str, Any], captured: dict[str, Any]) -> None:
    """Raise UsageError for every argument that is not what it was when the model was captured."""
    offences = [
        Offence(f"{name} is {_shown(value)}, and was {captured[name]!r}", remedy="capture with this argument")
        for name, value in given.items()
        if value is not captured[name] and (type(value) is not type(captured[name]) or value != captured[name])
    ]
    if offences:
        raise UsageError("the graph was captured for other arguments", offences)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, _LITERAL) else f"a {type(value).__name__}"

"""The inputs of a graph: the same names, order and defaults as the model's own forward."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from frostline.compiler.capture.tape import Tape
from frostline.compiler.graph import Example
from frostline.compiler.tensors import tensors_in
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
        if next(tensors_in(value), None) is not None:
            tape.unpack(nodes[name], value)
        elif isinstance(value, _LITERAL):
            baked[name] = value
    if baked:
        tape.effect(unchanged, {name: nodes[name] for name in baked}, baked)
    return bound.args, bound.kwargs


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

"""`capture`: try the front ends in turn, and believe the first one that proves itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import fx, nn

from frostline.compiler.capture import fx_tracer
from frostline.compiler.capture.proof import on_meta, prove, run_example
from frostline.compiler.capture.user_line import user_line
from frostline.compiler.graph import Example, Facts, Graph, assemble, facts, set_facts, share
from frostline.errors import CaptureError, Offence


class FrontEnd(Protocol):
    """One way to get from a module to an fx graph whose names are the module's own."""

    name: str

    def trace(self, model: nn.Module, example: Example) -> fx.Graph: ...


FRONT_ENDS: tuple[FrontEnd, ...] = (fx_tracer.FxTracer(),)
"""In the order in which they are tried."""


def capture(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Graph:
    """Capture a model as a graph over the model's own parameters and buffers.

    `example_inputs` are the positional arguments of one call, batch first; a batch of any size will do. The model
    itself is not run and not changed: front ends and proof work on copies. The graph's outputs, gradients and buffers
    are compared with the model's, in train and in eval mode and at a second batch size, before it is returned; on the
    meta device nothing can be compared, and the graph says so.

    Raises CaptureError when the example does not fit the model, or when no front end captures it faithfully.
    """
    example = _check(model, example_inputs, example_kwargs)
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise CaptureError("the model cannot be copied", [Offence(f"deepcopy: {error}", user_line(error))]) from error
    try:
        run_example(copy.deepcopy(twin), example)
    except Exception as error:
        reason = Offence(_first_line(error), user_line(error), "see device, dtype, shape and number of the inputs")
        raise CaptureError("the model does not run on its example inputs", [reason]) from error

    reasons: list[Offence] = []
    for front_end in FRONT_ENDS:
        try:
            graph = front_end.trace(copy.deepcopy(twin), example)
            module = assemble(share(model), graph, model.training)
            proof = prove(twin, module, example)
        except Exception as error:
            reasons.append(Offence(f"{front_end.name}: {_first_line(error)}", user_line(error)))
            continue
        if proof.differences:
            reasons += [Offence(f"{front_end.name}: {difference}") for difference in proof.differences]
            continue
        captured = Graph(module, example, f"{front_end.name}, {proof}")
        _record_shapes(captured)
        return captured
    raise CaptureError(f"{type(model).__name__} cannot be captured", reasons)


def _check(model: object, example_inputs: object, example_kwargs: object) -> Example:
    if not isinstance(model, nn.Module):
        raise CaptureError("the model is not a torch.nn.Module", [Offence(f"it is a {type(model).__name__}")])
    if not isinstance(example_inputs, tuple):
        remedy = "write (x,) for a single tensor"
        raise CaptureError(
            "example_inputs is not a tuple", [Offence(f"it is a {type(example_inputs).__name__}", remedy=remedy)]
        )
    kwargs = {} if example_kwargs is None else example_kwargs
    if not isinstance(kwargs, Mapping):
        raise CaptureError("example_kwargs is not a mapping", [Offence(f"it is a {type(kwargs).__name__}")])
    return Example(example_inputs, dict(kwargs))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _Shapes(fx.Interpreter):
    """Runs a graph once and notes the shape and dtype of every value on the node of the original."""

    def __init__(self, module: fx.GraphModule, originals: Mapping[str, fx.Node]) -> None:
        super().__init__(module)
        self._originals = originals

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        node = self._originals[n.name]
        if isinstance(value, torch.Tensor):
            old = facts(node)
            set_facts(node, Facts(tuple(value.shape), value.dtype, old.where, old.path, old.name))
        return value


def _record_shapes(graph: Graph) -> None:
    twin = copy.deepcopy(graph.module).eval()
    originals = {node.name: node for node in graph.nodes}
    arguments = _positional(twin, graph.example)
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(twin, graph.example)):
        _Shapes(twin, originals).run(*arguments)


def _positional(module: fx.GraphModule, example: Example) -> list[Any]:
    """The example as the graph's placeholders expect it."""
    rest = list(example.args)
    arguments = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            default = node.args[0] if node.args else None
            arguments.append(rest.pop(0) if rest else example.kwargs.get(str(node.target), default))
    return arguments

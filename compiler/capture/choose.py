"""`capture`: try the front ends in turn, and believe the first one that proves itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import fx, nn

from frostline.compiler.capture import fx_tracer
from frostline.compiler.capture.proof import batches, on_meta, prove, run_example
from frostline.compiler.capture.user_line import reads_of_training, user_line
from frostline.compiler.graph import Example, Graph, assemble, facts, set_facts, share
from frostline.errors import CaptureError, Offence, first_line


class FrontEnd(Protocol):
    """One way to get from a module to an fx graph whose names are the module's own."""

    name: str

    def trace(self, model: nn.Module, example: Example) -> fx.Graph: ...


FRONT_ENDS: tuple[FrontEnd, ...] = (fx_tracer.FxTracer(),)
"""In the order in which they are tried."""

_SHOWN = 4


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
        reason = Offence(first_line(error), user_line(error), "see device, dtype, shape and number of the inputs")
        raise CaptureError("the model does not run on its example inputs", [reason]) from error

    reasons: list[Offence] = []
    for front_end in FRONT_ENDS:
        try:
            traced = copy.deepcopy(twin)
            graph = front_end.trace(traced, example)
            module = assemble(_with_constants(share(model), traced, graph), graph, model.training)
            proof = prove(twin, module, example)
            if not proof.differences:
                captured = Graph(module, example, f"{front_end.name}, {proof}")
                _record_shapes(captured)
                return captured
        except Exception as error:
            reasons.append(Offence(f"{front_end.name}: {first_line(error)}", user_line(error), _advice(error)))
            continue
        reasons += [Offence(f"{front_end.name}: {difference}") for difference in proof.differences[:_SHOWN]]
        if len(proof.differences) > _SHOWN:
            reasons.append(Offence(f"{front_end.name}: and {len(proof.differences) - _SHOWN} more differences"))
        reasons += reads_of_training(model)
    raise CaptureError(f"{type(model).__name__} cannot be captured", reasons)


def _with_constants(tree: nn.Module, traced: nn.Module, graph: fx.Graph) -> nn.Module:
    """Tensors that the tracer found in the forward itself come along, outside of the state."""
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "get_attr" and "." not in target and not hasattr(tree, target):
            constant = getattr(traced, target)
            if isinstance(constant, torch.Tensor):
                tree.register_buffer(target, constant.detach(), persistent=False)
    return tree


def _advice(error: Exception) -> str | None:
    if "control flow" in str(error):
        return "Python cannot branch on a traced value: write it with torch.where, or move the choice out of forward"
    return None


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


class _Values(fx.Interpreter):
    """Runs a graph once and keeps the shape and dtype of every tensor, by the name of its node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n.name] = tuple(value.shape), value.dtype
        return value


def _record_shapes(graph: Graph) -> None:
    """Note the shape of every value for the example, and which of its axes follow the batch."""
    twin = copy.deepcopy(graph.module).eval()
    own = _values(twin, graph.example)
    try:
        small, large = (_values(twin, example) for _, example in batches(graph.example))
    except Exception:
        small = large = {}  # the model takes no other batch than its own: its first axis it is
    for node in graph.nodes:
        if node.name not in own:
            continue
        shape, dtype = own[node.name]
        axes: tuple[int, ...] = (0,)
        if node.name in small and node.name in large and len(small[node.name][0]) == len(large[node.name][0]):
            pairs = zip(small[node.name][0], large[node.name][0], strict=True)
            axes = tuple(axis for axis, (one, other) in enumerate(pairs) if one != other)
        set_facts(node, replace(facts(node), shape=shape, dtype=dtype, batch=axes))


def _values(module: fx.GraphModule, example: Example) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    interpreter = _Values(module)
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(module, example)):
        interpreter.run(*example.bound(module).values())
    return interpreter.found

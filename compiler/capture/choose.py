"""`capture`: try the front ends in turn, and believe the first one that proves itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol, cast

import torch
from torch import fx, nn

from frostline.compiler.capture.eager import Eager, on_meta, run_example
from frostline.compiler.capture.fx_tracer import FxTracer
from frostline.compiler.capture.proof import prove
from frostline.compiler.capture.recorder import Recorder, record
from frostline.compiler.capture.regions import capture_regions
from frostline.compiler.capture.shapes import record_shapes
from frostline.compiler.capture.tape import ON_VALUES
from frostline.compiler.capture.traced import Traced
from frostline.compiler.capture.user_line import reads_of_training, user_line
from frostline.compiler.graph import Example, Graph
from frostline.compiler.net import Modes, assemble, duplicate, share
from frostline.compiler.tensors import tensors_in
from frostline.errors import CaptureError, Offence, first_line


class FrontEnd(Protocol):
    """One way to get from a module to fx graphs whose names are the module's own."""

    name: str

    def trace(self, model: nn.Module, example: Example) -> Traced: ...


FRONT_ENDS: tuple[FrontEnd, ...] = (FxTracer(), Recorder())
"""Those that take a model whole, in the order in which they are tried. After them comes capture by regions."""

_SHOWN = 4


@contextmanager
def _quiet() -> Iterator[None]:
    """What a model warns of is for those who run it, not for every try that is made here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Attempt:
    """What a front end made of a model: a proven graph, or the reasons why there is none."""

    front_end: str
    graph: Graph | None
    reasons: tuple[Offence, ...] = ()
    proof: str = ""


def capture(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Graph:
    """Capture a model as a graph over the model's own parameters and buffers.

    `example_inputs` are the positional arguments of one call, batch first; a batch of any size will do. The model
    itself is not run and not changed: front ends and proof work on copies. The graph's outputs, gradients and buffers
    are compared with the model's, in train and in eval mode and at several batch sizes, before it is returned; on the
    meta device nothing can be compared, and the graph says so.

    Raises CaptureError when the example does not fit the model, or when no front end captures it faithfully.
    """
    reasons: list[Offence] = []
    for attempt in attempts(model, example_inputs, example_kwargs):
        if attempt.graph is not None:
            return attempt.graph
        reasons += [replace(one, what=f"{attempt.front_end}: {one.what}") for one in attempt.reasons]
    raise CaptureError(f"{type(model).__name__} cannot be captured", reasons)


def attempts(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Iterator[Attempt]:
    """Every front end's attempt at a model, in order, each made when it is asked for.

    Raises CaptureError when the example does not fit the model.
    """
    example = _check(model, example_inputs, example_kwargs)
    try:
        twin = duplicate(model)
    except Exception as error:
        raise CaptureError("the model cannot be copied", [Offence(f"deepcopy: {error}", user_line(error))]) from error
    try:
        with _quiet():
            run_example(duplicate(twin), example)
    except Exception as error:
        advice = "see device, dtype, shape and number of the inputs"
        reasons = [Offence(first_line(error), user_line(error), advice), *_misfits(model, example)]
        raise CaptureError("the model does not run on its example inputs", reasons) from error
    meta, eager = on_meta(twin, example), Eager(twin, example)
    for front_end in reversed(FRONT_ENDS) if meta else FRONT_ENDS:  # where nothing is proven, the one that errs least
        yield _whole(front_end, model, [eager])
    if not meta:
        yield _regions(model, twin, example)


@_quiet()
def _whole(front_end: FrontEnd, model: nn.Module, calls: list[Eager]) -> Attempt:
    """Capture by one front end, over the model's own parameters, and prove it for each of these calls of a copy."""
    twin, example = calls[0].model, calls[0].example
    try:
        holder = duplicate(twin)
        traced = front_end.trace(holder, example)
        tree = _with_constants(share(model), holder, traced)
        flags = calls[0].flags
        module = assemble(tree, traced.evaluating, model.training, Modes(traced.training, flags))
        proofs = [prove(call, module) for call in calls]
        if proofs[0].refused:
            module = assemble(tree, traced.evaluating, model.training, Modes(None, flags, proofs[0].refused))
        differences = [difference for proof in proofs for difference in proof.differences]
        if not differences:
            graph = Graph(module, example, f"{front_end.name}, {proofs[0]}")
            record_shapes(graph)
            return Attempt(front_end.name, graph, proof=str(proofs[0]))
    except Exception as error:
        asked = reads_of_training(model) if "train mode takes" in str(error) else ()
        return Attempt(front_end.name, None, (_reason(error), *asked))
    return Attempt(front_end.name, None, tuple(_told(differences)))


@_quiet()
def _regions(model: nn.Module, twin: nn.Module, example: Example) -> Attempt:
    """Capture by regions: each proven alone, and then all of them together in the model."""

    def whole(module: nn.Module, calls: list[Example]) -> Graph | None:
        copied = duplicate(module)
        eager = [Eager(copied, call) for call in calls]
        attempted = (_whole(front_end, module, eager) for front_end in FRONT_ENDS)
        return next((attempt.graph for attempt in attempted if attempt.graph is not None), None)

    name = "regions"
    try:
        eager = Eager(twin, example, fresh=True)
        tree, regions = capture_regions(model, list(eager.trials()), whole)
        if not regions:
            return Attempt(name, None, (Offence("no submodule with parameters can be captured"),))
        tree.train(model.training)
        proof = prove(eager, tree)
    except Exception as error:
        return Attempt(name, None, (_reason(error),))
    if proof.differences:
        return Attempt(name, None, tuple(_told(list(proof.differences))))
    inner = {path: region.example for path, region in regions.items()}
    text = f"{name} ({', '.join(regions)}), {proof}"
    graph = Graph(cast(fx.GraphModule, tree), example, text, inner, evaluating=_evaluating(model, twin, example))
    return Attempt(name, graph, proof=str(proof))


def _evaluating(model: nn.Module, twin: nn.Module, example: Example) -> Graph | None:
    """The model captured whole in eval mode alone, if it can be."""
    try:
        holder = duplicate(twin)
        traced = Traced(record(duplicate(twin).eval(), holder, example))
        refused = Modes(refused="it is captured in regions for training, and whole for eval mode only")
        module = assemble(_with_constants(share(model), holder, traced), traced.evaluating, False, refused)
        proof = prove(Eager(twin, example, modes=(False,)), module)
    except Exception:
        return None
    return None if proof.differences else Graph(module, example, f"recorder, {proof}")


def _told(differences: list[str]) -> Iterator[Offence]:
    for difference in differences[:_SHOWN]:
        yield Offence(difference)
    if len(differences) > _SHOWN:
        yield Offence(f"and {len(differences) - _SHOWN} more differences")


def _with_constants(tree: nn.Module, holder: nn.Module, traced: Traced) -> nn.Module:
    """Tensors that the tracer found in the forward itself come along, outside of the state."""
    for node in chain(traced.evaluating.nodes, traced.training.nodes if traced.training else ()):
        target = str(node.target)
        if node.op == "get_attr" and "." not in target and not hasattr(tree, target):
            constant = getattr(holder, target)
            if isinstance(constant, torch.Tensor):
                tree.register_buffer(target, constant.detach(), persistent=False)
    return tree


def _reason(error: Exception) -> Offence:
    """What went wrong, in the user's words where it is known, with their line."""
    text = str(error)
    if "control flow" in text or "a branch on a value" in text or isinstance(error, ON_VALUES):
        remedy = "no graph can branch on a value: write it with torch.where, or move the choice out of forward"
        return Offence("Python asks for a value here, to branch on it or to compute with it", user_line(error), remedy)
    remedies = {
        "train mode takes": "a traced graph has one mode: use a module that knows it, such as nn.Dropout",
        "batch size as a number": "use x.shape[0] as it is, without int(), range() or a comparison",
    }
    return Offence(first_line(error), user_line(error), next((r for key, r in remedies.items() if key in text), None))


def _misfits(model: nn.Module, example: Example) -> Iterator[Offence]:
    """Where inputs and parameters are of different devices or floating-point types."""
    for name, own, given in (
        ("on", {str(p.device) for p in model.parameters()}, {str(t.device) for t in tensors_in(example)}),
        (
            "of",
            {str(p.dtype) for p in model.parameters() if p.is_floating_point()},
            {str(t.dtype) for t in tensors_in(example) if t.is_floating_point()},
        ),
    ):
        if own and given and not given <= own:
            what = f"the model is {name} {', '.join(sorted(own))}, its example {name} {', '.join(sorted(given))}"
            yield Offence(what, remedy="move or convert the one to the other")


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

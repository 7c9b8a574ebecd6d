"""The proof of a capture: the graph does what the model does.

Every tracer is wrong in silence on some model. So outputs, gradients and buffers of the graph are compared with the
eager model's, in train and in eval mode, at several batch sizes, from the same random state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frostline.compiler.capture.eager import GRADIENT, Eager, Outcome, Trial, close, on_meta, run
from frostline.compiler.net import duplicate
from frostline.errors import first_line

_NOISE = 1e-5
"""Only a gradient below this share of the largest may be rounding alone."""
_MODES = {False: "eval", True: "train"}


@dataclass(frozen=True)
class Proof:
    """What was compared, and the differences that were found: all those of the first run that had any."""

    differences: tuple[str, ...]
    compared: str
    refused: str = ""
    """Why the model itself does not run in train mode, if it does not; then nothing is known of that mode."""

    def __str__(self) -> str:
        return self.compared


def prove(eager: Eager, graph: nn.Module) -> Proof:
    """Compare a captured module with the model; neither is changed."""
    names = _names(eager.model), _names(graph)
    missing = tuple(f"{name} is missing in the graph" for name in sorted(names[0] - names[1]))
    if on_meta(eager.model, eager.example):
        return Proof(missing, "not proven: on the meta device there are no values to compare")
    twin = duplicate(graph)
    constants = {f"the buffer {name}" for name in names[1] - names[0]}
    made = {f"the buffer {name}": value.clone() for name, value in graph.named_buffers() if name in names[1] - names[0]}
    passed: list[Trial] = []
    for trial in eager.trials():
        actual = run(twin, trial.inputs, trial.training)
        where = f"in {_MODES[trial.training]} mode, batch of {trial.batch}"
        differences = [f"in {_MODES[trial.training]} mode, {fault}" for fault in _faults(eager, trial)]
        differences += [f"{where}, {difference}" for difference in _compare(eager, trial, actual, constants)]
        kept = [name for name, value in made.items() if not close(value, actual.values.get(name, value))]
        differences += [f"{where}, a tensor that the forward makes anew is changed and kept ({name})" for name in kept]
        if differences or missing:
            return Proof((*missing, *differences), "")
        passed.append(trial)
        twin = duplicate(graph) if eager.fresh else twin
    if False in eager.failures:
        return Proof((f"the model itself does not run in eval mode: {first_line(eager.failures[False])}",), "")
    modes, sizes = (
        list(dict.fromkeys(column)) for column in zip(*((t.training, t.batch) for t in passed), strict=True)
    )
    compared = f"proven in {' and '.join(_MODES[mode] for mode in modes)} mode at batch {_listed(sizes)}"
    left = dict.fromkeys(name for trial in passed if trial.again for name in trial.again.leaves)
    compared += f"; what the forward leaves on {', '.join(left)} is not kept" if left else ""
    return Proof((), compared, first_line(eager.failures[True]) if True in eager.failures else "")


def _faults(eager: Eager, trial: Trial) -> Iterator[str]:
    """What no graph can do, because the model itself does not do the same twice."""
    if trial.again is not None:
        for difference in _compare(eager, trial, trial.again, set()):
            yield f"the model changes itself: at a second call {difference}"
        for name in trial.again.counts:
            yield f"the model changes itself: every call changes {name}"
    if trial.outcome.draws and not eager.fresh:
        yield "the forward draws random numbers from Python or numpy"


def _names(module: nn.Module) -> set[str]:
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    return {name for name, _ in (*parameters, *buffers)}


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _compare(eager: Eager, trial: Trial, actual: Outcome, constants: set[str]) -> Iterator[str]:
    """How a run differs from the model's own, apart from buffers that only the graph has."""
    expected = trial.outcome
    if actual.failure is not None:
        yield f"the graph raises {type(actual.failure).__name__}: {first_line(actual.failure)}"
        return
    if expected.kind is not actual.kind:
        yield f"it returns a {actual.kind.__name__} in place of a {expected.kind.__name__}"
    for name in sorted(expected.values.keys() | (actual.values.keys() - constants)):
        one, other = expected.values.get(name), actual.values.get(name)
        if one is None or other is None:
            yield f"{name} exists only in the {'graph' if one is None else 'model'}"
        elif one.shape != other.shape or one.dtype != other.dtype:
            yield f"{name} is {other.dtype} {list(other.shape)} in place of {one.dtype} {list(one.shape)}"
        elif not (
            torch.allclose(one, other, rtol=1e-4, atol=1e-5 * _scale(one), equal_nan=True)
            or _is_noise(eager, trial, name, other)
        ):
            yield f"{name} differs"


def _is_noise(eager: Eager, trial: Trial, name: str, found: Tensor) -> bool:
    """Whether it is a gradient that is nothing but rounding, as of an attention's key bias: 0, were numbers exact."""
    if not name.startswith(GRADIENT):
        return False
    gradients = {one: value for one, value in trial.outcome.values.items() if one.startswith(GRADIENT)}
    size = max(_largest(gradients[name]), _largest(found))
    exact = eager.exact(trial).values.get(name)
    small = size < _NOISE * max(map(_largest, gradients.values()))
    return small and exact is not None and _largest(exact) < 0.01 * size


def _scale(value: Tensor) -> float:
    return max(_largest(value), 1e-6) if value.numel() else 1.0


def _largest(value: Tensor) -> float:
    finite = value.abs().nan_to_num(0, 0, 0) if value.is_complex() else value.double().abs().nan_to_num(0, 0, 0)
    return float(finite.max()) if value.numel() else 0.0

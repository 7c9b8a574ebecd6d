"""The proof of a capture: the graph does what the model does.

Every tracer is wrong in silence on some model. So outputs, gradients and buffers of the graph are compared with the
eager model's, in train and in eval mode, at several batch sizes, from the same random state.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.compiler.graph import Example, duplicate
from frostline.compiler.tensors import tensors_in
from frostline.errors import first_line

_BATCHES = (1, 2, 3)
_MODES = {False: "eval", True: "train"}


@dataclass(frozen=True)
class Proof:
    """What was compared, and every difference that was found."""

    differences: tuple[str, ...]
    compared: str
    refused: str = ""
    """Why the model itself does not run in train mode, if it does not; then nothing is known of that mode."""

    def __str__(self) -> str:
        return self.compared


@dataclass(frozen=True)
class _Outcome:
    values: dict[str, Tensor]
    failure: Exception | None = None
    kind: type = object
    draws: bool = False
    """Whether Python or numpy drew a random number, which no graph would draw again."""


def prove(model: nn.Module, graph: nn.Module, example: Example, *, inner: bool = False) -> Proof:
    """Compare a captured module with the model; neither is changed.

    `inner` says that the captured module runs the model's own Python around what is captured.
    """
    names = _names(model), _names(graph)
    differences = [f"{name} is missing in the graph" for name in sorted(names[0] - names[1])]
    if on_meta(model, example):
        return Proof(tuple(differences), "not proven: on the meta device there are no values to compare")
    twin = duplicate(graph)
    constants = {f"the buffer {name}" for name in names[1] - names[0]}
    sizes: list[str] = []
    modes: list[str] = []
    failures: dict[str, Exception] = {}
    for training, mode in _MODES.items():
        own = duplicate(model)
        for batch, inputs in (*batches(example), ("own", example)):
            if (batch == "own" and mode in modes) or (batch == "1" and training):
                continue
            expected = _run(own, inputs, training)
            if expected.failure is not None:
                failures[mode] = expected.failure
                own = duplicate(model)
                continue  # nothing is promised where the eager model itself does not run
            first = mode not in modes
            modes += [mode] * first
            if inner:
                own, twin = duplicate(model), duplicate(graph)  # its own Python may keep count of calls
            elif first:
                again = _run(own, inputs, training)
                changes = list(_compare(expected, again, set()))
                differences += [f"in {mode} mode, the model changes itself: at a second call {d}" for d in changes]
            sizes += [batch] * (batch not in sizes)
            if expected.draws and not inner:
                differences.append(f"in {mode} mode, the forward draws random numbers from Python or numpy")
            actual = _run(twin, inputs, training)
            differences += [f"in {mode} mode, batch of {batch}, {d}" for d in _compare(expected, actual, constants)]
    if "eval" not in modes:
        differences.append(f"the model itself does not run in eval mode: {first_line(failures['eval'])}")
    compared = f"proven in {' and '.join(modes)} mode at batch {_listed(sizes)}"
    refused = first_line(failures["train"]) if "train" not in modes else ""
    return Proof(tuple(dict.fromkeys(differences)), compared, refused)


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def run_example(model: nn.Module, example: Example) -> None:
    """Run a model once on its example, in eval mode and without gradients. Raises what the model raises."""
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(model, example)):
        inputs = example.copied()
        model(*inputs.args, **inputs.kwargs)


def on_meta(model: nn.Module, example: Example) -> bool:
    """Whether the model or an input has no values."""
    return any(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors_in((example.args, example.kwargs))))


def _names(module: nn.Module) -> set[str]:
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    return {name for name, _ in (*parameters, *buffers)}


def batches(example: Example) -> Iterator[tuple[str, Example]]:
    """The example at several batch sizes, made of its own samples."""
    own = example.batch_size()
    if not own:
        return
    for batch in _BATCHES:
        yield str(batch), example.picked([sample % own for sample in range(batch)])


def _run(twin: nn.Module, inputs: Example, training: bool) -> _Outcome:
    """Outputs, gradients and buffers of one forward and backward; then all is as it was."""
    before = [dict(module._buffers) for module in twin.modules()]
    state = (*twin.parameters(), *twin.buffers())
    held = {id(tensor): (tensor, tensor.detach().clone()) for tensor in state}
    twin.train(training).zero_grad(set_to_none=True)
    given = inputs.copied()
    devices = sorted({t.device.index or 0 for t in twin.parameters() if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), _seeded() as draws:
        torch.manual_seed(0)
        try:
            result = twin(*given.args, **given.kwargs)
            outputs = list(tensors_in(result))
            loss = sum((_weighted(out) for out in outputs if out.requires_grad), torch.zeros(()))
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            return _Outcome({}, error)
    values = {f"output {index}": out.detach() for index, out in enumerate(outputs)}
    values |= {f"the gradient of {name}": p.grad for name, p in twin.named_parameters() if p.grad is not None}
    values |= {f"the buffer {name}": buffer.detach().clone() for name, buffer in twin.named_buffers()}
    for module, buffers in zip(twin.modules(), before, strict=False):
        module._buffers.update(buffers)
    with torch.no_grad():
        for tensor, value in held.values():
            tensor.copy_(value)
    return _Outcome(values, None, type(result), bool(draws))


@contextmanager
def _seeded() -> Iterator[list[bool]]:
    """Python's and numpy's random numbers start from a seed, and go on afterwards as if nothing had been."""
    before = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    start = _drawn()
    draws: list[bool] = []
    try:
        yield draws
    finally:
        if _drawn() != start:
            draws.append(True)
        random.setstate(before[0])
        np.random.set_state(before[1])


def _drawn() -> Any:
    """Changes with every random number that is drawn."""
    return random.getstate(), repr(np.random.get_state())


def _weighted(output: Tensor) -> Tensor:
    """A scalar whose gradient differs from entry to entry, so that no permutation goes unseen."""
    weights = torch.linspace(0.5, 1.5, output.numel(), device=output.device).reshape(output.shape)
    return (output.abs() * weights if output.is_complex() else output * weights).sum().cpu()


def _compare(expected: _Outcome, actual: _Outcome, constants: set[str]) -> Iterator[str]:
    if actual.failure is not None:
        yield f"the graph raises {type(actual.failure).__name__}: {first_line(actual.failure)}"
        return
    if expected.kind is not actual.kind:
        yield f"it returns a {actual.kind.__name__} in place of a {expected.kind.__name__}"
    own = {name: value for name, value in actual.values.items() if name not in constants}
    yield from _compare_values(expected.values, own)


def _compare_values(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> Iterator[str]:
    for name in sorted(expected.keys() | actual.keys()):
        one, other = expected.get(name), actual.get(name)
        if one is None or other is None:
            yield f"{name} exists only in the {'graph' if one is None else 'model'}"
        elif one.shape != other.shape or one.dtype != other.dtype:
            yield f"{name} is {other.dtype} {list(other.shape)} in place of {one.dtype} {list(one.shape)}"
        elif not torch.allclose(one, other, rtol=1e-4, atol=1e-5 * _scale(one), equal_nan=True):
            yield f"{name} differs"


def _scale(value: Tensor) -> float:
    finite = value.float().abs().nan_to_num(0, 0, 0) if not value.is_complex() else value.abs().nan_to_num(0, 0, 0)
    return max(float(finite.max()), 1e-6) if value.numel() else 1.0

"""The proof of a capture: the graph does what the model does.

Every tracer is wrong in silence on some model. So outputs, gradients and buffers of the graph are compared with the
eager model's, in train and in eval mode, at two batch sizes, from the same random state.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from frostline.compiler.graph import Example
from frostline.errors import first_line

_BATCHES = (2, 3)
_MODES = {False: "eval", True: "train"}


@dataclass(frozen=True)
class Proof:
    """What was compared, and every difference that was found."""

    differences: tuple[str, ...]
    compared: str

    def __str__(self) -> str:
        return self.compared


@dataclass(frozen=True)
class _Outcome:
    values: dict[str, Tensor]
    failure: Exception | None = None


def prove(model: nn.Module, graph: nn.Module, example: Example) -> Proof:
    """Compare a captured module with the model; neither is changed."""
    names = _names(model), _names(graph)
    differences = [f"{name} is missing in the graph" for name in sorted(names[0] - names[1])]
    if on_meta(model, example):
        return Proof(tuple(differences), "not proven: on the meta device there are no values to compare")
    twin = copy.deepcopy(graph)
    constants = {f"the buffer {name}" for name in names[1] - names[0]}
    sizes: list[str] = []
    modes: list[str] = []
    failures: dict[str, Exception] = {}
    for training, mode in _MODES.items():
        for batch, inputs in batches(example):
            expected = _run(copy.deepcopy(model), inputs, training)
            if expected.failure is not None:
                failures[mode] = expected.failure
                continue  # nothing is promised where the eager model itself does not run
            sizes += [batch] * (batch not in sizes)
            modes += [mode] * (mode not in modes)
            actual = _run(twin, inputs, training)
            differences += [f"in {mode} mode, batch of {batch}, {d}" for d in _compare(expected, actual, constants)]
    for mode, failure in failures.items():
        if mode not in modes:
            differences.append(f"the model itself does not run in {mode} mode: {first_line(failure)}")
    return Proof(tuple(differences), f"proven in {' and '.join(modes)} mode at batch {' and '.join(sizes)}")


def run_example(model: nn.Module, example: Example) -> None:
    """Run a model once on its example, in eval mode and without gradients. Raises what the model raises."""
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(model, example)):
        args, kwargs = _copied(example)
        model(*args, **kwargs)


def on_meta(model: nn.Module, example: Example) -> bool:
    """Whether the model or an input has no values."""
    leaves = pytree.tree_leaves((example.args, example.kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return any(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors))


def _names(module: nn.Module) -> set[str]:
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    return {name for name, _ in (*parameters, *buffers)}


def batches(example: Example) -> Iterator[tuple[str, Example]]:
    """The example at two batch sizes, made of its own samples."""
    own = example.batch_size()
    if not own:
        yield "1", example
        return
    for batch in _BATCHES:
        yield str(batch), example.picked([sample % own for sample in range(batch)])


def _run(twin: nn.Module, inputs: Example, training: bool) -> _Outcome:
    """Outputs, gradients and buffers of one forward and backward; buffers are then put back."""
    before = {name: buffer.clone() for name, buffer in twin.named_buffers()}
    twin.train(training).zero_grad(set_to_none=True)
    args, kwargs = _copied(inputs)
    devices = sorted({t.device.index or 0 for t in twin.parameters() if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(0)
        try:
            outputs = [leaf for leaf in pytree.tree_leaves(twin(*args, **kwargs)) if isinstance(leaf, Tensor)]
            loss = sum((_weighted(out) for out in outputs if out.requires_grad), torch.zeros(()))
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            return _Outcome({}, error)
    values = {f"output {index}": out.detach() for index, out in enumerate(outputs)}
    values |= {f"the gradient of {name}": p.grad for name, p in twin.named_parameters() if p.grad is not None}
    values |= {f"the buffer {name}": buffer.clone() for name, buffer in twin.named_buffers()}
    for name, buffer in twin.named_buffers():
        buffer.copy_(before[name])
    return _Outcome(values)


def _copied(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs that a model may change."""
    copies: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map_only(
        Tensor, lambda t: t.detach().clone(), (example.args, example.kwargs)
    )
    return copies


def _weighted(output: Tensor) -> Tensor:
    """A scalar whose gradient differs from entry to entry, so that no permutation goes unseen."""
    weights = torch.linspace(0.5, 1.5, output.numel(), device=output.device).reshape(output.shape)
    return (output.abs() * weights if output.is_complex() else output * weights).sum().cpu()


def _compare(expected: _Outcome, actual: _Outcome, constants: set[str]) -> Iterator[str]:
    if actual.failure is not None:
        yield f"the graph raises {type(actual.failure).__name__}: {first_line(actual.failure)}"
        return
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

"""What a model does by itself: outputs, gradients and buffers, in eval and in train mode, at several batch sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.compiler.graph import Example
from frostline.compiler.net import duplicate
from frostline.compiler.tensors import tensors_in

_BATCHES = (1, 2, 3)
GRADIENT = "the gradient of"
_KEPT = "backward through the graph a second time"


@dataclass(frozen=True)
class Outcome:
    """What a run gave: outputs, gradients and buffers by name, and the kind of what was returned; or why it failed."""

    values: dict[str, Tensor]
    failure: Exception | None = None
    kind: type = object
    draws: bool = False
    """Whether Python or numpy drew a random number, which no graph would draw again."""
    counts: tuple[str, ...] = ()
    """Attributes whose numbers the forward changed."""
    leaves: tuple[str, ...] = ()
    """Attributes that the forward gave another tensor."""


@dataclass(frozen=True)
class Trial:
    """One run of a model: in a mode, on a batch, which is a size or "own"; `again` is a second run, if one was made."""

    training: bool
    batch: str
    inputs: Example
    outcome: Outcome
    again: Outcome | None = None


class Eager:
    """The trials of a model on its example. Each is made once, when it is first asked for, however many ask.

    `fresh` makes each on a copy of its own, for models whose Python keeps count of its calls.
    """

    def __init__(
        self, model: nn.Module, example: Example, *, fresh: bool = False, modes: tuple[bool, ...] = (False, True)
    ) -> None:
        self.model, self.example, self.fresh, self.modes = model, example, fresh, modes
        self.failures: dict[bool, Exception] = {}
        """Why the model does not run, by mode."""
        self._done: list[Trial] = []
        self._exact: dict[int, Outcome] = {}
        self._left = self._trials()

    @cached_property
    def flags(self) -> dict[bool, dict[str, bool]]:
        """The flags that the model's own `train()` sets otherwise than asked, as a frozen BatchNorm does, by mode."""
        twin = duplicate(self.model)
        return {
            mode: {
                path: module.training
                for path, module in twin.train(mode).named_modules()
                if path and module.training != mode
            }
            for mode in (True, False)
        }

    def exact(self, trial: Trial) -> Outcome:
        """The same run in double precision."""
        if id(trial) not in self._exact:
            inputs = trial.inputs.mapped(lambda t: t.double() if t.is_floating_point() else t)
            self._exact[id(trial)] = run(duplicate(self.model).double(), inputs, trial.training)
        return self._exact[id(trial)]

    def _without_gradients(self, twin: nn.Module, inputs: Example, training: bool, outcome: Outcome) -> Outcome:
        """The second run of a model that kept the autograd graph of its first.

        A cache of what parameters alone make does no harm. Whether it is one is seen with other inputs.
        """
        other = _varied(inputs)
        anew, kept = (run(each, other, training, gradients=False).values for each in (duplicate(self.model), twin))
        same = anew.keys() == kept.keys() and all(close(value, kept[name]) for name, value in anew.items())
        return replace(outcome, counts=() if same else ("what it keeps of its inputs",))

    def trials(self) -> Iterator[Trial]:
        """Every run that the model takes: nothing is promised where it does not run by itself."""
        place = 0
        while True:
            if place == len(self._done):
                trial = next(self._left, None)
                if trial is None:
                    return
                self._done.append(trial)
            yield self._done[place]
            place += 1

    def _trials(self) -> Iterator[Trial]:
        for training in self.modes:
            twin, ran = duplicate(self.model), False
            for batch, inputs in (*batches(self.example), ("own", self.example)):
                if batch == "own" and ran:
                    continue
                outcome, usual = run(twin, inputs, training), inputs
                if batch == "3" and outcome.failure is None:
                    # Else what the example's own values hide is never seen, nor what is kept of inputs of one size.
                    inputs = _varied(usual)
                    other = run(duplicate(self.model) if self.fresh else twin, inputs, training)
                    inputs, outcome = (usual, outcome) if other.failure is not None else (inputs, other)
                if outcome.failure is not None:
                    self.failures[training] = outcome.failure
                    twin = duplicate(self.model)
                    continue
                again = None if ran or self.fresh else run(twin, inputs, training)
                if again is not None and _KEPT in str(again.failure):
                    again, self.fresh = self._without_gradients(twin, inputs, training, outcome), True
                yield Trial(training, batch, inputs, outcome, again)
                ran = True
                twin = duplicate(self.model) if self.fresh else twin
            if ran:
                self.failures.pop(training, None)


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.allclose(one, other, equal_nan=True)


def batches(example: Example) -> Iterator[tuple[str, Example]]:
    """The example at several batch sizes, made of its own samples."""
    own = example.batch_size()
    if not own:
        return
    for batch in _BATCHES:
        yield str(batch), example.picked([sample % own for sample in range(batch)])


def _varied(example: Example) -> Example:
    """The same inputs with other values: floats scaled entry by entry, flags drawn anew, other integers shuffled."""
    generator = torch.Generator().manual_seed(0)

    def vary(tensor: Tensor) -> Tensor:
        noise = torch.rand(tensor.shape, generator=generator).to(tensor.device)
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.detach() * (0.25 + 1.5 * noise).to(tensor.dtype)
        if tensor.dtype == torch.bool or (tensor.numel() and tensor.min() >= 0 and tensor.max() <= 1):
            flags = (noise < 0.75).to(tensor.dtype)
            if tensor.dim():
                flags[..., 0] = 1  # a mask that hides everything is no usual one
            return flags
        return tensor.flatten()[noise.flatten().argsort()].reshape(tensor.shape)

    return example.mapped(vary)


def run_example(model: nn.Module, example: Example) -> None:
    """Run a model once on its example, in eval mode and without gradients. Raises what the model raises."""
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(enabled=not on_meta(model, example)):
        inputs = example.copied()
        model(*inputs.args, **inputs.kwargs)


def on_meta(model: nn.Module, example: Example) -> bool:
    """Whether the model or an input has no values."""
    return any(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors_in(example)))


def run(twin: nn.Module, inputs: Example, training: bool, *, gradients: bool = True) -> Outcome:
    """Outputs, gradients and buffers of one forward and backward; then all is as it was."""
    before = [dict(module._buffers) for module in twin.modules()]
    state = (*twin.parameters(), *twin.buffers())
    held = {id(tensor): (tensor, tensor.detach().clone()) for tensor in state}
    twin.train(training).zero_grad(set_to_none=True)
    given, attributes = inputs.copied(), _attributes(twin)
    devices = sorted({t.device.index or 0 for t in twin.parameters() if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(gradients), _seeded() as draws:
        torch.manual_seed(0)
        try:
            result = twin(*given.args, **given.kwargs)
            outputs = list(tensors_in(result))
            loss = sum((_weighted(out) for out in outputs if out.requires_grad), torch.zeros(()))
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            return Outcome({}, error)
    values = {f"output {index}": out.detach() for index, out in enumerate(outputs)}
    values |= {f"{GRADIENT} {name}": p.grad for name, p in twin.named_parameters() if p.grad is not None}
    values |= {f"the buffer {name}": buffer.detach().clone() for name, buffer in twin.named_buffers()}
    for module, buffers in zip(twin.modules(), before, strict=False):
        module._buffers.update(buffers)
    with torch.no_grad():
        for tensor, value in held.values():
            tensor.copy_(value)
    counts, leaves = (_changed(*pair) for pair in zip(attributes, _attributes(twin), strict=True))
    return Outcome(values, None, type(result), bool(draws), counts, leaves)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, value in after.items() if name in before and before[name] != value)


def _attributes(model: nn.Module) -> tuple[dict[str, Any], dict[str, int]]:
    """The plain attributes of all modules: numbers, words and the states of generators; and which tensors there are."""
    numbers: dict[str, Any] = {}
    tensors: dict[str, int] = {}
    for path, module in model.named_modules():
        for own, value in vars(module).items():
            name = f"{path}.{own}" if path else own
            if isinstance(value, (bool, int, float, str)) and own != "training":
                numbers[name] = value
            elif isinstance(value, random.Random):
                numbers[name] = value.getstate()
            elif isinstance(value, (Tensor, type(None))):
                tensors[name] = id(value)
    return numbers, tensors


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

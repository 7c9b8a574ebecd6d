"""The probe: what arrives at every depth of a network on its way to binary, step by step.

A committed binary activation without a surrogate stops the gradient to everything above it, nearer to the input: the
gradient blockade of StoMPP (arXiv 2606.27759). In a probe's table that is a gradient of exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, fx, nn

from frostline.compiler.masks import Mask, threshold
from frostline.compiler.net import modes_of
from frostline.divergence import turning
from frostline.errors import CheckpointError, FileError, FrostlineError, Offence, UsageError, first_line
from frostline.program import Program
from frostline.records import Record, read, write_records, written
from frostline.tables import complaints


@dataclass
class _Calls:
    """What a mask was given and made in one forward, call by call."""

    given: list[Tensor] = field(default_factory=list)
    made: list[Tensor] = field(default_factory=list)


class Probe:
    """A table of what happens at every site of a program, filled by `record()` between two optimizer steps.

    `loss` computes a scalar from the net, always on the same batch:
    `Probe(program, lambda net: cross_entropy(net(x), y))`. To count flips, the signs of all weights are kept, a byte
    each.
    """

    def __init__(self, program: Program, loss: Callable[[fx.GraphModule], Tensor]) -> None:
        self._program = program
        self._loss = loss
        self._turns = {turn.site.name: turn for turn in program.plan.turns}
        self._masks = program.driver.masks
        self._records: list[Record] = []
        self._signs: dict[str, Tensor] = {}

    @property
    def records(self) -> tuple[Record, ...]:
        """The rows of the table so far, by step."""
        return tuple(self._records)

    def record(self, masked: float | None = None, binary: float | None = None) -> None:
        """Add the rows of the present step: one forward and one backward in train mode on the probe's batch.

        `masked` and `binary` are accuracies that you measured, shares from 0 to 1. Nothing is left behind, also after
        an error: parameters and their gradients, buffers, modes and torch's random state are what they were. A compiled
        net runs eagerly here. After a step back, to an earlier checkpoint, the rows from there on are replaced.

        Raises FrostlineError, naming the step and what was turning, when the loss or a gradient is not finite, and
        UsageError when the loss is no scalar of the net's, or an accuracy no share.
        """
        with _untouched(self._program), _watched(self._masks) as calls:
            loss, gradients = self._backward(self._loss(self._program.net), calls)
        signs = {
            name: calls[name].given[0].detach() >= threshold(turn.levels)
            for name, turn in self._turns.items()
            if turn.site.kind == "weight" and calls[name].given
        }
        flips = self._flips(signs)
        frozen = _numbers({name: self._masks[name].frozen.double().mean() for name in self._turns})
        step = self._program.step
        try:
            rows = [
                Record(
                    step=step,
                    depth=turn.site.depth,
                    kind=turn.site.kind,
                    site=name,
                    start=turn.start,
                    stop=turn.stop,
                    fraction=turn.fraction(step),
                    frozen=frozen[name],
                    gradient=gradients[name],
                    flips=flips.get(name),
                    loss=loss,
                    masked=masked,
                    binary=binary,
                )
                for name, turn in sorted(self._turns.items(), key=lambda item: item[1].site.depth)
            ]
        except ValidationError as error:
            faults = dict.fromkeys(complaints(error))
            offences = [Offence(what, remedy="accuracies are shares from 0 to 1") for what in faults]
            raise UsageError("this cannot be recorded", offences) from error
        self._records = [row for row in self._records if row.step < step] + rows
        self._signs |= signs

    def write(self, path: str | Path) -> None:
        """Write the table as CSV, whole or not at all. Raises FileError when it cannot be written."""
        write_records(path, self._records)

    def state_dict(self) -> dict[str, Any]:
        """The table and the signs of the last record: with them in your checkpoint, the table goes on where it was."""
        return {"table": written(self._records), "signs": dict(self._signs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the table of a saved state. Raises CheckpointError when it is none, or of another program."""
        try:
            records, signs = read(state["table"], "its table"), dict(state["signs"])
            shapes = {name: tuple(one.shape) for name, one in signs.items()}
        except (FileError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError("this is not the state of a probe", [Offence(first_line(error))]) from error
        own = {name: turn.site.shape for name, turn in self._turns.items()}
        foreign = sorted(({row.site for row in records} | signs.keys()) - own.keys())
        offences = [Offence(f"{name} turns only in the checkpoint") for name in foreign]
        unlike = [name for name in shapes if name in own and shapes[name] != own[name]]
        offences += [Offence(f"{name} has another shape in the checkpoint") for name in unlike]
        if offences:
            raise CheckpointError("the probe's state is of another program", offences)
        self._records, self._signs = records, signs

    def _backward(self, loss: Tensor, calls: Mapping[str, _Calls]) -> tuple[float, dict[str, float]]:
        """The loss, and for each site the norm of the gradient in all that its mask made."""
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            remedy = "return the scalar tensor that you would call backward() on"
            raise UsageError(
                "the probe's loss is no scalar with a gradient", [Offence("nothing to follow", remedy=remedy)]
            )
        if not any(seen.made for seen in calls.values()):
            remedy = "compute it from the argument: lambda net: cross_entropy(net(x), y)"
            raise UsageError("the probe's loss does not run the net", [Offence("no mask was used", remedy=remedy)])
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged([f"loss {value}"])
        made = [one for seen in calls.values() for one in seen.made]
        try:
            found = iter(torch.autograd.grad(loss, made, allow_unused=True))
        except RuntimeError as error:
            raise FrostlineError("the probe's backward failed", [Offence(first_line(error))]) from error
        received = {name: [next(found) for _ in seen.made] for name, seen in calls.items()}
        norms = _numbers({name: _norm(gradients, loss) for name, gradients in received.items()})
        bad = [f"gradient {norms[name]} at {name}" for name in norms if not math.isfinite(norms[name])]
        if bad:
            raise self._diverged(bad)
        return value, norms

    def _flips(self, signs: Mapping[str, Tensor]) -> dict[str, float]:
        before = {name: self._signs[name].to(now.device) for name, now in signs.items() if name in self._signs}
        return _numbers({name: (signs[name] != then).double().mean() for name, then in before.items()})

    def _diverged(self, whats: Sequence[str]) -> FrostlineError:
        at = f"at step {self._program.step}, {turning(self._program.plan, self._program.step)}"
        remedy = "lower the learning rate, and go on from a checkpoint before this step"
        return FrostlineError("training diverged", [Offence(f"{what} {at}", remedy=remedy) for what in whats])


def _norm(gradients: Sequence[Tensor | None], loss: Tensor) -> Tensor:
    # In float64, so that no gradient is so small that its square is 0: 0 says that none arrives.
    squares = [one.double().square().sum().to(loss.device) for one in gradients if one is not None]
    return torch.stack([torch.zeros((), dtype=torch.float64, device=loss.device), *squares]).sum().sqrt()


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Single numbers, read from the device all at once."""
    if not values:
        return {}
    device = next(iter(values.values())).device
    return dict(zip(values, torch.stack([value.to(device) for value in values.values()]).tolist(), strict=True))


@contextmanager
def _watched(masks: Mapping[str, Mask]) -> Iterator[dict[str, _Calls]]:
    """What each mask is given and makes within this context."""
    calls = {name: _Calls() for name in masks}

    def watch(seen: _Calls) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(mask: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
            # What is made of a frozen parameter or of an input has no gradient of its own, and yet one arrives at it.
            followed = made if made.requires_grad else made.detach().requires_grad_()
            seen.given.append(given[0])
            seen.made.append(followed)
            return followed

        return hook

    with ExitStack() as stack:
        for name, mask in masks.items():
            stack.callback(mask.register_forward_hook(watch(calls[name])).remove)
        yield calls


@contextmanager
def _untouched(program: Program) -> Iterator[None]:
    """Within this context the net trains, eagerly; modes, buffers and random state are put back at its end."""
    net = program.net
    modes = [(module, module.training) for module in net.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in net.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = sorted({parameter.device.index for parameter in net.parameters() if parameter.is_cuda})
    trains = not any(modes_of(part.module).refused for part in program.graph.parts())
    try:
        with torch.random.fork_rng(devices), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            net.train(trains)
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer)
                buffer.copy_(before)

"""`compile`: a float model and a schedule spec in, a program out, which trains to a binary graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor, fx, nn

from frostline.compiler.capture import capture
from frostline.compiler.driver import Driver
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import mask_nodes, settled
from frostline.compiler.masks import Mask
from frostline.compiler.net import duplicate
from frostline.compiler.plan import Plan, plan, retargeted
from frostline.compiler.products import attribute
from frostline.compiler.rewriting import Pass, check, run
from frostline.compiler.saved import state_faults
from frostline.compiler.sites import Site, sites
from frostline.compiler.unreached import unreached
from frostline.errors import CheckpointError, Offence, PlanError, UsageError
from frostline.passes import FREEZING, EstimateBatchNorm, InsertMasks
from frostline.schedules import ScheduleSpec


@dataclass(frozen=True)
class Program:
    """A model on its way to binary: the masked graph, the plan, and the driver that executes the plan."""

    graph: Graph
    plan: Plan
    driver: Driver
    model: nn.Module
    """The model that was compiled."""

    @property
    def net(self) -> fx.GraphModule:
        """The module to train: the model's own parameters, masked."""
        return self.graph.module

    @property
    def step(self) -> int:
        """The number of optimizer steps that are done."""
        return self.driver.step

    def advance(self) -> None:
        """One optimizer step of the plan is done."""
        self.driver.advance()

    @contextmanager
    def binarized(self) -> Iterator[fx.GraphModule]:
        """Within this context `net` is the fully binary network, whatever the step. Evaluate it; do not train it."""
        with self.driver.binarized():
            yield self.net

    def state_dict(self) -> dict[str, Any]:
        """The program's own state, small and plain: save it beside `net.state_dict()` and the optimizer's."""
        return {
            "spec": self.plan.spec.as_data(),
            "total_steps": self.plan.total_steps,
            "steps_per_epoch": self.plan.steps_per_epoch,
            "step": self.step,
            "windows": {turn.site.name: [turn.start, turn.stop] for turn in self.plan.turns},
            "shapes": {turn.site.name: list(turn.shape) for turn in self.plan.turns},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the step of a saved state: from there on the masks are what they would have been.

        Raises CheckpointError, with every difference, when the state is of another model, spec or budget.
        """
        differences = list(state_faults(state)) or list(_differences(self.state_dict(), state))
        if differences:
            raise CheckpointError("the checkpoint does not belong to this program", differences)
        self.driver.resume(state["step"])

    def freeze(
        self,
        example_inputs: tuple[Any, ...] | None = None,
        example_kwargs: Mapping[str, Any] | None = None,
        *,
        batches: Iterable[Any] | None = None,
    ) -> Graph:
        """The fully binary graph, with tensors of its own: of a model in regions, the whole where eval mode is one.

        For a model that is called otherwise after training, without labels say, give an example of such a call: the
        model is captured anew for it, on the CPU, in eval mode.

        Where the spec has BatchNorm estimated anew, `batches` are training inputs, without labels, as many as it says
        or more: each a tensor, a tuple of positional arguments, or a mapping of keywords.

        Raises PassError, naming every site that is not settled, before the plan is done; CaptureError and UsageError
        where the call is none that the model takes, or lacks a site; UsageError where batches are missing.
        """
        check(self.graph, (settled,), f"the program cannot be frozen at step {self.step}: it is not {{}}")
        passes = (FREEZING[0], *self._estimating(batches), *FREEZING[1:])  # before BatchNorm is folded
        if example_inputs is not None or example_kwargs is not None:
            inputs = () if example_inputs is None else example_inputs
            return run(self._called_with(inputs, example_kwargs), passes)
        return run(self._evaluating() or self.graph.snapshot(), passes)

    def _estimating(self, batches: Iterable[Any] | None) -> Iterator[Pass]:
        asked, where = self.plan.spec.batch_norm, self.plan.spec.where("batch_norm")
        if asked is None and batches is None:
            return
        if asked is None:
            remedy = "add `batch_norm: {reestimate: 50}` to the spec, or leave the batches out"
            raise UsageError(
                "the spec asks for no batches", [Offence("nothing would be done with them", where, remedy)]
            )
        if batches is not None and not isinstance(batches, Iterable):
            what = Offence(f"it is a {type(batches).__name__}", None, "program.freeze(batches=[x1, x2, ...])")
            raise UsageError("batches are a list, or another iterable, of inputs", [what])
        taken = list(islice(batches if batches is not None else (), asked.reestimate))
        if len(taken) < asked.reestimate:
            what = f"BatchNorm is to be estimated from {asked.reestimate} batches, and there are {len(taken)}"
            raise UsageError("batches are missing", [Offence(what, where, "program.freeze(batches=...)")])
        yield EstimateBatchNorm(taken)

    def _evaluating(self) -> Graph | None:
        """The whole of a model in regions, settled, where its eval mode is one graph and has every site."""
        if self.graph.evaluating is None:
            return None
        whole = self.graph.evaluating.snapshot()
        self._give_values(whole.module)
        return self._settled(whole, sites(whole))

    def _called_with(self, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None) -> Graph:
        twin = duplicate(self.model).eval()
        self._give_values(twin)
        captured = capture(twin, example_inputs, example_kwargs)
        graph = captured.evaluating or captured
        turned = {one.key: one.name for turn in self.plan.turns for one in turn.site.operands}
        found = sites(graph)
        own = {one.key: one.name for site in found for one in site.operands}
        kept = {one.name for one in self.plan.kept_float}
        faults = [Offence(f"{name} of {key[0]} is not in it") for key, name in turned.items() if key not in own]
        new = [key for key, name in own.items() if key not in turned and name not in kept]
        faults += [Offence(f"{own[key]} of {key[0]} is new in it") for key in new]
        whole = self._settled(graph, found)
        if faults or whole is None:
            raise UsageError("this call has other sites than the one that was trained", faults)
        return whole

    def _give_values(self, other: nn.Module) -> None:
        """Give another module of the same names the net's parameters and buffers, those that are not saved as well."""
        held = {**dict(self.net.named_parameters(remove_duplicate=False)), **dict(_buffers(self.net))}
        for name, tensor in (*other.named_parameters(remove_duplicate=False), *_buffers(other)):
            if name in held:
                tensor.data = held[name].detach().cpu().clone()

    def _settled(self, whole: Graph, found: Sequence[Site]) -> Graph | None:
        """Another graph of the model, which has the trained values, with settled masks; None where it lacks a site."""
        turns = retargeted(self.plan, found)
        if turns is None:
            return None
        masked = run(whole, (InsertMasks(turns),))
        for part in masked.parts():
            for _, mask in mask_nodes(part):
                mask.mask.fill_(True)
        return masked


def _buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return module.named_buffers(remove_duplicate=False)


def compile(
    model: nn.Module,
    spec: ScheduleSpec,
    example_inputs: tuple[Any, ...],
    total_steps: int,
    *,
    steps_per_epoch: int | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
) -> Program:
    """Capture a model, find its sites, plan their turning, and insert the masks.

    `example_inputs` are positional arguments of one call, batch first. `total_steps` is the budget in optimizer steps;
    `steps_per_epoch` is needed where the spec counts in epochs. The program's `net` holds the model's own parameters.

    Raises CaptureError when the model cannot be captured faithfully, PlanError when spec, model and budget do not fit.
    """
    if not isinstance(spec, ScheduleSpec):
        remedy = "read it first: fl.load_spec(path)"
        raise UsageError("spec is not a schedule spec", [Offence(f"it is a {type(spec).__name__}", remedy=remedy)])
    graph = capture(model, example_inputs, example_kwargs)
    planned = plan(spec, sites(graph), total_steps, steps_per_epoch, unreached(graph))
    if spec.batch_norm is not None and graph.regions and graph.evaluating is None:
        remedy = "leave it out: the model was captured in regions, which its inputs do not fit"
        what = Offence("BatchNorm cannot be estimated anew in this model", spec.where("batch_norm"), remedy)
        raise PlanError("the plan cannot be made", [what])
    graph = run(graph, (InsertMasks(planned),))
    masks: dict[str, Mask] = {}
    held: dict[str, Callable[[], Tensor]] = {}
    for part in graph.parts():
        for node, mask in mask_nodes(part):
            masks[str(facts(node).name)] = mask
            if mask.latent is not None:
                held[str(facts(node).name)] = partial(attribute, part, node.all_input_nodes[0])
    return Program(graph, planned, Driver(planned, masks, held), model)


def _differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Offence]:
    wrong = [name for name in own if not isinstance(other, Mapping) or not isinstance(other.get(name), type(own[name]))]
    wrong = [name for name in wrong if name != "steps_per_epoch"]
    if wrong or other["windows"].keys() != other["shapes"].keys():
        what = f"it has no {', '.join(wrong)}" if wrong else "its windows and shapes are not of the same sites"
        yield Offence(what, remedy="pass what state_dict() returned")
        return
    for name in ("total_steps", "steps_per_epoch"):
        if own[name] != other.get(name):
            yield Offence(f"{name} is {own[name]} here and {other.get(name)} in the checkpoint")
    one, two = dict(_flat(own["spec"])), dict(_flat(other["spec"]))
    for field in sorted(field for field in one.keys() | two.keys() if not field.startswith("batch_norm.")):
        if one.get(field) != two.get(field):
            yield Offence(f"spec {field} is {one.get(field)} here and {two.get(field)} in the checkpoint")
    for name in sorted(own["shapes"].keys() | other["shapes"].keys()):
        one, two = own["shapes"].get(name), other["shapes"].get(name)
        if one is None or two is None:
            yield Offence(f"{name} turns only in {'the checkpoint' if one is None else 'this program'}")
        elif one != two:
            yield Offence(f"{name} has shape {one} here and {two} in the checkpoint")
        elif own["windows"][name] != other["windows"][name]:
            (a, b), (c, d) = own["windows"][name], other["windows"][name]
            yield Offence(f"{name} turns in [{a}, {b}) here and in [{c}, {d}) in the checkpoint")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value

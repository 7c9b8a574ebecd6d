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
from frostline.compiler.plan_digest import digest
from frostline.compiler.products import attribute
from frostline.compiler.ranks import check_values, leave_to_ranks
from frostline.compiler.rewriting import Pass, check, run
from frostline.compiler.saved import state_faults
from frostline.compiler.sites import Site, sites
from frostline.compiler.unreached import unreached
from frostline.errors import CheckpointError, Offence, PlanError, SpecError, UsageError
from frostline.passes import FREEZING, CloseModules, EstimateBatchNorm, InsertMasks, OpenModules
from frostline.passes.close_modules import matching
from frostline.schedules import ScheduleSpec, fields_of, spec_from_data


@dataclass(frozen=True)
class Program:
    """A model on its way to binary: the masked graph, the plan, and the driver that executes the plan."""

    graph: Graph
    plan: Plan
    driver: Driver
    model: nn.Module
    """The model that was compiled."""
    sites: tuple[Site, ...]
    """Every site of the model, those that stay float too."""

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
        """The program's own state, small and plain: save it beside `net.state_dict()` and the optimizer's.

        It holds the spec with its seed, the budget, the step, a digest of the plan, and the windows and mask shapes by
        the names of the sites, to say what differs. Masks follow from plan and step, so no noise is in it and nothing
        of a rank: save it on one, load it on all, as many as there are.
        """
        return _state(self.plan, self.step)

    def load_state_dict(self, state: Mapping[str, Any], *, edited: bool = False) -> str:
        """Continue at the step of a saved state: from there on the masks are what they would have been.

        With `edited` a state of another spec or budget is taken too, where the model is the same: the step stays, the
        masks are those of this program's plan. Returns what differs, a line each, and nothing where the plans are one.

        Raises CheckpointError, with every difference, when the state is of another model; without `edited` also when
        it is of another spec or budget.
        """
        if faults := list(state_faults(state)):
            raise CheckpointError("this is not the state of a program", faults)
        own = self.state_dict()
        differences = [] if own["plan"] == state.get("plan") else list(_differences(own, state))
        if differences and not edited:
            remedy = "to go on under this plan: edited=True, or `frostline train --edited-spec`"
            if all(own[name] == state.get(name) for name in ("spec", "total_steps", "steps_per_epoch")):
                remedy = "the model is another one, or its example took another branch: seed what both are made from"
            differences[-1] = Offence(differences[-1].what, remedy=remedy)
            raise CheckpointError("the checkpoint does not belong to this program", differences)
        if differences and (faults := list(self._foreign(state))):
            raise CheckpointError("the checkpoint is of another model", faults)
        self.driver.resume(state["step"])
        return "\n".join(fault.what for fault in differences)

    def _foreign(self, state: Mapping[str, Any]) -> Iterator[Offence]:
        """What shows that a state is of another model: its own spec gives this one another plan than it had."""
        try:
            spec = spec_from_data(state["spec"], "the checkpoint's spec")
            theirs = plan(spec, self.sites, state["total_steps"], state.get("steps_per_epoch"))
        except (SpecError, PlanError) as error:
            yield Offence(f"{error.headline}, for this model")
            yield from error.offences
        else:
            yield from _sites_that_differ(_state(theirs, 0), state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        """A program of its own, at the same step: its driver turns the masks of its own net."""
        graph, model = duplicate((self.graph, self.model), memo)
        driver = _driver(graph, self.plan)
        driver.resume(self.step)
        for name, mask in self.driver.masks.items():
            if mask.latent is not None:
                driver.masks[name].latent = mask.latent.clone()
        return Program(graph, self.plan, driver, model, self.sites)

    def freeze(
        self,
        example_inputs: tuple[Any, ...] | None = None,
        example_kwargs: Mapping[str, Any] | None = None,
        *,
        batches: Iterable[Any] | None = None,
        values: Mapping[str, Tensor] | None = None,
    ) -> Graph:
        """The fully binary graph, with tensors of its own: of a model in regions, the whole where eval mode is one.

        For a model that is called otherwise after training, without labels say, give an example of such a call: the
        model is captured anew for it, on the CPU, in eval mode.

        Where the spec has BatchNorm estimated anew, `batches` are training inputs, without labels, as many as it says
        or more: each a tensor, a tuple of positional arguments, or a mapping of keywords.

        `values` stand in for the net's own: its whole `state_dict`, where the net is sharded, or an average of several.
        The model is then captured anew, on the CPU, in eval mode.

        Raises PassError, naming every site that is not settled, before the plan is done; CaptureError and UsageError
        where the call is none that the model takes, or lacks a site; UsageError where batches are missing, where the
        net is sharded and there are no values, or where the values are of another model.
        """
        check(self.graph, (settled,), f"the program cannot be frozen at step {self.step}: it is not {{}}")
        passes = (FREEZING[0], *self._estimating(batches), *FREEZING[1:])  # before BatchNorm is folded
        check_values(self.net, values)
        if values is not None and example_inputs is None and example_kwargs is None:
            example_inputs, example_kwargs = self.graph.example.args, self.graph.example.kwargs
        if example_inputs is not None or example_kwargs is not None:
            inputs = () if example_inputs is None else example_inputs
            return run(self._called_with(inputs, example_kwargs, values), passes)
        return run(self._evaluating() or self.graph.snapshot(), (OpenModules(), *passes))

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

    def _called_with(
        self,
        example_inputs: tuple[Any, ...],
        example_kwargs: Mapping[str, Any] | None,
        values: Mapping[str, Tensor] | None,
    ) -> Graph:
        twin = duplicate(self.model).eval()
        self._give_values(twin, values)
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

    def _give_values(self, other: nn.Module, values: Mapping[str, Tensor] | None = None) -> None:
        """Give another module of the same names the net's parameters and buffers, those that are not saved as well."""
        held = {**dict(self.net.named_parameters(remove_duplicate=False)), **dict(_buffers(self.net)), **(values or {})}
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
                mask.freeze(True)
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
    closed: Sequence[str] = (),
) -> Program:
    """Capture a model, find its sites, plan their turning, and insert the masks.

    `example_inputs` are positional arguments of one call, batch first. `total_steps` is the budget in optimizer steps;
    `steps_per_epoch` is needed where the spec counts in epochs. The program's `net` holds the model's own parameters.

    `closed` are patterns of modules, such as `layers.*`, the outermost of which are called as modules in the net, for
    what works module by module, as `fully_shard` does. The net computes the same.

    Raises CaptureError when the model cannot be captured faithfully, PlanError when spec, model and budget do not fit,
    UsageError where a pattern matches no module, PassError where a module reads, or lends, parameters of another.
    """
    if not isinstance(spec, ScheduleSpec):
        remedy = "read it first: fl.load_spec(path)"
        raise UsageError("spec is not a schedule spec", [Offence(f"it is a {type(spec).__name__}", remedy=remedy)])
    graph = capture(model, example_inputs, example_kwargs)
    found = tuple(sites(graph))
    planned = plan(spec, found, total_steps, steps_per_epoch, unreached(graph))
    if spec.batch_norm is not None and graph.separate_regions:
        remedy = "leave it out: the model was captured in regions, which its inputs do not fit"
        what = Offence("BatchNorm cannot be estimated anew in this model", spec.where("batch_norm"), remedy)
        raise PlanError("the plan cannot be made", [what])
    graph = run(graph, (InsertMasks(planned),))
    if closed:
        graph = run(graph, (CloseModules(matching(graph, closed)),))
    leave_to_ranks(graph.module, model)
    return Program(graph, planned, _driver(graph, planned), model, found)


def _driver(graph: Graph, planned: Plan) -> Driver:
    """The driver of the masks in a graph."""
    masks: dict[str, Mask] = {}
    held: dict[str, Callable[[], Tensor]] = {}
    for part in graph.parts():
        for node, mask in mask_nodes(part):
            masks[str(facts(node).name)] = mask
            if mask.latent is not None:
                held[str(facts(node).name)] = partial(attribute, part, node.all_input_nodes[0])
    return Driver(planned, masks, held)


def _state(plan: Plan, step: int) -> dict[str, Any]:
    return {
        "spec": plan.spec.as_data(),
        "total_steps": plan.total_steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "step": step,
        "plan": digest(plan),
        "windows": {turn.site.name: [turn.start, turn.stop] for turn in plan.turns},
        "shapes": {turn.site.name: list(turn.shape) for turn in plan.turns},
    }


def _differences(own: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Offence]:
    for name in ("plan", "total_steps", "steps_per_epoch"):
        if own[name] != state.get(name, own["plan"] if name == "plan" else None):
            yield Offence(f"{name} is {own[name]} here and {state.get(name)} in the checkpoint")
    one, two = dict(fields_of(own["spec"])), dict(fields_of(state["spec"]))
    for field in sorted(field for field in one.keys() | two.keys() if not field.startswith("batch_norm.")):
        if one.get(field) != two.get(field):
            yield Offence(f"spec {field} is {one.get(field)} here and {two.get(field)} in the checkpoint")
    yield from _sites_that_differ(own, state)


def _sites_that_differ(own: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Offence]:
    for name in sorted(own["shapes"].keys() | state["shapes"].keys()):
        one, two = own["shapes"].get(name), state["shapes"].get(name)
        if one is None or two is None:
            yield Offence(f"{name} turns only in {'the checkpoint' if one is None else 'this program'}")
        elif one != two:
            yield Offence(f"{name} has shape {one} here and {two} in the checkpoint")
        elif own["windows"][name] != state["windows"][name]:
            (a, b), (c, d) = own["windows"][name], state["windows"][name]
            yield Offence(f"{name} turns in [{a}, {b}) here and in [{c}, {d}) in the checkpoint")

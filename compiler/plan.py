"""The plan: which site turns binary in which steps. A pure function of the spec, the sites and the budget."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from frostline.compiler.operations import NAMES
from frostline.compiler.patterns import keeps, matches, matches_no_binary, matches_nothing
from frostline.compiler.plan_text import table
from frostline.compiler.sites import Site
from frostline.compiler.unreached import Unreached
from frostline.compiler.windows import edges_of, groups_of
from frostline.errors import Offence, PlanError
from frostline.schedules import (
    ROLES,
    SIGNS,
    Curve,
    Gradient,
    Levels,
    Override,
    Per,
    Scale,
    ScheduleSpec,
    Transition,
)


@dataclass(frozen=True)
class Turn:
    """How one site turns: in the half-open window of steps `[start, stop)`, along a curve, to one of two levels.

    Its mask has an entry `per` element or channel, of which in each step one of `refresh` parts is drawn anew, or none.
    `rule` says which part of the spec decided it.
    """

    site: Site
    start: int
    stop: int
    curve: Curve
    refresh: int | None
    gradient: Gradient
    per: Per
    levels: Levels
    scale: Scale
    transition: Transition
    rule: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its mask, which is broadcast over the site's value.

        An entry for each element has the site's shape; one for each channel has no axis before the channels', and an
        axis of 1 for each after it. What sharpens has a single entry.
        """
        if self.transition == "sharpen":
            return ()
        shape, channel = self.site.shape, self.site.channel
        if self.per == "element" or channel is None:
            return shape
        return (shape[channel], *(1 for _ in shape[channel + 1 :]))

    def fraction(self, step: int) -> float:
        """The fraction of binary entries in the forward of a step: 0 before the window, 1 from its end on."""
        if step < self.start:
            return 0.0
        if step >= self.stop:
            return 1.0
        return self.curve.fraction((step - self.start) / (self.stop - self.start))


@dataclass(frozen=True)
class Window:
    """The steps `[start, stop)` in which a depth, or another group of sites, turns; `label` names the group."""

    label: str
    start: int
    stop: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class KeptFloat:
    """An operand that stays float, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What will happen in every step of training. Its text form is a table, to be read before it is paid for."""

    spec: ScheduleSpec
    total_steps: int
    steps_per_epoch: int | None
    windows: tuple[Window, ...]
    kept_float: tuple[KeptFloat, ...]
    unmatched: tuple[str, ...]
    unreached: tuple[Unreached, ...] = ()
    """Parameters that no site is made of: they stay float whatever the spec says."""

    @property
    def constant(self) -> tuple[Site, ...]:
        """The activations that turn to signs although they are never negative: all will be +1."""
        return tuple(turn.site for turn in self.turns if turn.site.never_negative and turn.levels == SIGNS)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every turn, in the order of the windows."""
        return tuple(turn for window in self.windows for turn in window.turns)

    @property
    def mask_bytes(self) -> int:
        """What all masks take in memory while the net trains: a byte for each entry."""
        return sum(math.prod(turn.shape) for turn in self.turns)

    @property
    def settled_at(self) -> int:
        """The first step in which every site is settled."""
        return self.windows[-1].stop

    def window_at(self, step: int) -> Window | None:
        """The window that is turning in a step, if one is."""
        return next((window for window in self.windows if window.start <= step < window.stop), None)

    def __str__(self) -> str:
        return table(self)


def plan(
    spec: ScheduleSpec,
    sites: Sequence[Site],
    total_steps: int,
    steps_per_epoch: int | None = None,
    unreached: Sequence[Unreached] = (),
) -> Plan:
    """Compile a spec for the sites of a model and a budget of optimizer steps.

    `steps_per_epoch` is needed where the spec counts in epochs; `unreached` is printed and plans nothing. Raises
    PlanError with every offence: patterns that match nothing, windows that do not fit, nothing left to binarize.
    """
    for name, number in (("total_steps", total_steps), ("steps_per_epoch", steps_per_epoch)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise PlanError(f"{name} is a positive whole number of optimizer steps, not {number!r}")
    binary, kept, unmatched, faults = _choose(spec, sites)
    groups, group_faults = groups_of(spec, binary, sites)
    turns, override_faults = _decide(spec, binary, sites)
    edges, budget_faults = edges_of(spec, total_steps, steps_per_epoch, groups, sites)
    faults += [*group_faults, *override_faults, *budget_faults]
    if not faults and not binary:
        faults.append(_nothing(sites, kept))
    if faults:
        raise PlanError("the plan cannot be made", faults)
    windows = tuple(
        Window(label, start, stop, tuple(replace(turns[site.name], start=start, stop=stop) for site in members))
        for (label, members), (start, stop) in zip(groups, pairwise(edges), strict=True)
    )
    return Plan(spec, total_steps, steps_per_epoch, windows, tuple(kept), tuple(unmatched), tuple(unreached))


def retargeted(plan: Plan, sites: Sequence[Site]) -> Plan | None:
    """The same plan for another graph of the model, by the names of the operands; None where it has not all of them."""
    places = {one.key: (site, one) for site in sites for one in site.operands}
    windows = []
    for window in plan.windows:
        turns = []
        for turn in window.turns:
            if not all(operand.key in places for operand in turn.site.operands):
                return None
            found = [places[operand.key] for operand in turn.site.operands]
            site = replace(found[0][0], name=turn.site.name, operands=tuple(operand for _, operand in found))
            turns.append(replace(turn, site=site, per="element"))
        windows.append(replace(window, turns=tuple(turns)))
    return replace(plan, windows=tuple(windows))


def _choose(spec: ScheduleSpec, sites: Sequence[Site]) -> tuple[list[Site], list[KeptFloat], list[str], list[Offence]]:
    """The sites that turn, with the operands that do; the operands that stay float; words that matched nothing."""
    wanted = {"weight": spec.binarize.weights, "activation": spec.binarize.activations}
    words = spec.binarize.keep_float
    used: set[str] = set()
    binary: list[Site] = []
    kept: list[KeptFloat] = []
    for site in sites:
        turning = []
        for operand in site.operands:
            matching = [word for word in words if keeps(word, operand)]
            used.update(matching)
            if matching:
                kept.append(KeptFloat(operand.name, f"keep_float: {', '.join(matching)}"))
            elif not wanted[site.kind]:
                kept.append(KeptFloat(operand.name, f"binarize.{site.kind}s is false"))
            else:
                turning.append(operand)
        if turning:
            first = turning[0]
            name = site.name if site.kind == "weight" else first.name
            depth = min(operand.depths.by(spec.progression.depth) for operand in turning)
            binary.append(replace(site, name=name, depth=depth, operands=tuple(turning)))
    names = [operand.name for site in sites for operand in site.operands]
    faults = [
        matches_nothing(word, (*names, *ROLES), spec.where("binarize", "keep_float", index))
        for index, word in enumerate(words)
        if word not in used and word not in ROLES
    ]
    return binary, kept, [word for word in words if word in ROLES and word not in used], faults


def _decide(spec: ScheduleSpec, binary: list[Site], sites: Sequence[Site]) -> tuple[dict[str, Turn], list[Offence]]:
    """How each site turns; the window is still open. Of several overrides the most specific wins, then the later."""
    turns: dict[str, Turn] = {}
    faults: list[Offence] = []
    for site in binary:
        numbered = [(index, one) for index, one in enumerate(spec.overrides) if matches(one.sites, site)]
        ranked = sorted(numbered, key=lambda item: _specificity(item[1].sites))
        curve, refresh, gradient = spec.progression.curve, spec.progression.refresh, spec.gradient
        per, levels, rule = spec.progression.per, SIGNS, ""
        scale: Scale = spec.binarize.scale if site.kind == "weight" else "none"
        for _, override in ranked:
            curve, refresh = override.curve or curve, override.refresh or refresh
            gradient, rule = override.gradient or gradient, override.sites
            per, levels, scale = override.per or per, override.levels or levels, override.scale or scale
        rate, transition = refresh.rate if isinstance(refresh.rate, int) else None, spec.progression.transition
        turn = Turn(site, 0, 0, curve, rate, gradient, per, levels, scale, transition, rule)
        turns[site.name] = turn
        faults += _impossible(spec, turn, ranked)
    faults += [
        matches_no_binary(override.sites, binary, sites, spec.where("overrides", index, "sites"))
        for index, override in enumerate(spec.overrides)
        if not any(matches(override.sites, site) for site in binary)
    ]
    return turns, faults


def _impossible(spec: ScheduleSpec, turn: Turn, ranked: Sequence[tuple[int, Override]]) -> Iterator[Offence]:
    """What a site cannot do that was asked of it, with the line that asks."""
    site = turn.site

    def asking(field: str, section: str | None = None) -> str | None:
        lines = (spec.where("overrides", i, field) for i, one in reversed(ranked) if getattr(one, field) is not None)
        return next(lines, spec.where(section, field) if section else None)

    if site.kind == "weight" and turn.levels != SIGNS:
        remedy = 'levels are for activations: narrow the pattern, as in "*.activation"'
        yield Offence(f"{site.name} is a weight, and weights are -1 and +1", asking("levels"), remedy)
    if site.kind == "activation" and turn.scale != "none":
        remedy = 'scales are for weights: narrow the pattern, as in "*.weight"'
        yield Offence(f"{site.name} is an activation, and has no scale", asking("scale"), remedy)
    readers = ", ".join(operand.operation for operand in site.operands)
    for field, section in (("per", "progression"), ("scale", "binarize")):
        if getattr(turn, field) == "channel" and site.channel is None:
            remedy = f'add the override {{sites: "{site.name}", {field}: {"element" if field == "per" else "none"}}}'
            what = f"{site.name} has no one axis of channels: it is read by {readers}"
            yield Offence(what, asking(field, section), remedy)
    if turn.transition == "sharpen" and turn.scale == "channel":
        what = f"{site.name} sharpens, and its ramp has no scale: the weight would jump at the end of its window"
        yield Offence(what, asking("scale", "binarize"), "leave scale out, or let sites turn behind masks")
    if turn.transition == "sharpen" and any((one.refresh or one.per) for _, one in ranked):
        where = spec.where("overrides", ranked[-1][0])
        yield Offence(f"{site.name} sharpens, and has no mask", where, "leave refresh and per out of the override")


def _specificity(pattern: str) -> tuple[bool, int]:
    """Plain names before patterns, then the pattern with the most letters."""
    letters = re.sub(r"\[[^]]*\]|[*?]", "", pattern)
    return letters == pattern, len(letters)


def _nothing(sites: Sequence[Site], kept: Sequence[KeptFloat]) -> Offence:
    if not sites:
        what = "the model has no operation whose weight is a parameter: nothing to binarize"
        return Offence(what, remedy=f"frostline binarizes {', '.join(NAMES)}")
    reasons = "; ".join(f"{one.name} ({one.why})" for one in kept)
    return Offence(f"every site stays float: {reasons}", remedy="keep fewer of them float")

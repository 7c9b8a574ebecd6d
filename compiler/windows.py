"""Windows: which sites turn together, in which order, and in which steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from frostline.compiler.patterns import matches, matches_no_binary
from frostline.compiler.sites import Site
from frostline.errors import Offence
from frostline.schedules import Duration, ScheduleSpec

Groups = list[tuple[str, list[Site]]]
"""The sites that share a window, with the window's label, in the order of the windows."""


def groups_of(spec: ScheduleSpec, binary: Sequence[Site], sites: Sequence[Site]) -> tuple[Groups, list[Offence]]:
    """The groups of the sites that turn, and what the spec's order leaves out or cannot find."""
    progression = spec.progression
    if not isinstance(progression.order, str):
        return _listed(spec, progression.order, binary, sites)
    if progression.stages == "together":
        return _ordered(spec, binary), []
    kinds = ("activation", "weight") if progression.stages == "activations_first" else ("weight", "activation")
    stages = {kind: _ordered(spec, [site for site in binary if site.kind == kind]) for kind in kinds}
    return [(f"{kind}s, {label}", members) for kind in kinds for label, members in stages[kind]], []


def _ordered(spec: ScheduleSpec, binary: Sequence[Site]) -> Groups:
    progression = spec.progression
    if progression.order == "global":
        return [("all", list(binary))] if binary else []
    grouped: dict[str, list[Site]] = {}
    for site in sorted(binary, key=lambda site: site.depth):
        block = progression.group == "block"
        grouped.setdefault(f"block {block_of(site)}" if block else f"depth {site.depth}", []).append(site)
    groups = list(grouped.items())
    return groups[::-1] if progression.order == "reverse" else groups


def block_of(site: Site) -> str:
    """The element of the outermost list of modules that a site's first operation is in; else the operation itself.

    Such an element is a name up to its first number: `layer1.0` of `layer1.0.conv2`, `encoder.layer.3` of
    `encoder.layer.3.attention.self.query`.
    """
    parts = site.operands[0].operation.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
    return ".".join(parts[: number + 1])


def _listed(
    spec: ScheduleSpec, order: Sequence[str], binary: Sequence[Site], sites: Sequence[Site]
) -> tuple[Groups, list[Offence]]:
    groups: Groups = []
    faults: list[Offence] = []
    left = list(binary)
    for index, pattern in enumerate(order):
        members = [site for site in left if matches(pattern, site)]
        left = [site for site in left if site not in members]
        groups.append((pattern, members))
        if not members:
            where = spec.where("progression", "order", index)
            if any(matches(pattern, site) for site in binary):
                what = f'every site that "{pattern}" matches is taken by an entry before it'
                faults.append(Offence(what, where, "put the narrower pattern first"))
            else:
                faults.append(matches_no_binary(pattern, binary, sites, where))
    if left:
        names = ", ".join(site.name for site in left)
        remedy = 'add their patterns, or a last entry "*"'
        faults.append(Offence(f"the order leaves out {names}", spec.where("progression", "order"), remedy))
    return groups, faults


def edges_of(
    spec: ScheduleSpec, total_steps: int, steps_per_epoch: int | None, groups: Groups, sites: Sequence[Site]
) -> tuple[list[int], list[Offence]]:
    """The first step of each window and the end of the last: they fill what warm-up and tail leave of the budget."""
    begin, end, faults = _span(spec, total_steps, steps_per_epoch, len(groups))
    lengths, length_faults = _lengths(spec, groups, sites)
    if faults or length_faults or not groups:
        return [], [*faults, *length_faults]
    whole = sum(lengths)
    edges = [begin + _rounded((end - begin) * done / whole) for done in accumulate(lengths, initial=Fraction(0))]
    empty = [label for (label, _), (start, stop) in zip(groups, pairwise(edges), strict=True) if start == stop]
    if empty:
        what = f"no step is left for {', '.join(empty)}"
        faults.append(Offence(what, spec.where("progression", "windows"), "give the run more steps, or equal windows"))
    return edges, faults


def _rounded(number: Fraction) -> int:
    """The nearest integer, halves upwards: the same rule as for durations."""
    return math.floor(number + Fraction(1, 2))


def _lengths(spec: ScheduleSpec, groups: Groups, sites: Sequence[Site]) -> tuple[list[Fraction], list[Offence]]:
    """How long each window is, beside the others."""
    given = spec.progression.windows
    if given == "equal":
        return [Fraction(1)] * len(groups), []
    if given == "parameters":
        return [Fraction(_parameters(members, sites)) for _, members in groups], []
    if len(given) != len(groups):
        what = f"{len(given)} lengths are given for {len(groups)} windows"
        remedy = f"the windows are {'; '.join(label for label, _ in groups)}"
        return [], [Offence(what, spec.where("progression", "windows"), remedy)]
    return [Fraction(length) for length in given], []


def _parameters(members: Iterable[Site], sites: Sequence[Site]) -> int:
    """The number of entries in the weights of all operations that read some sites."""
    operations = {operand.operation for site in members for operand in site.operands}
    weights = [site for site in sites if site.kind == "weight"]
    return sum(math.prod(site.shape) for site in weights if any(one.operation in operations for one in site.operands))


def _span(
    spec: ScheduleSpec, total_steps: int, steps_per_epoch: int | None, windows: int
) -> tuple[int, int, list[Offence]]:
    """The first step of the first window, and the end of the last."""
    lengths: dict[str, int] = {}
    faults: list[Offence] = []
    durations: dict[str, Duration] = {"warmup": spec.progression.warmup, "tail": spec.progression.tail}
    for name, duration in durations.items():
        try:
            lengths[name] = duration.steps(total_steps, steps_per_epoch)
        except ValueError as error:
            remedy = "give it to compile; on the command line give --data, which tells it"
            faults.append(Offence(f"progression.{name}: {error}", spec.where("progression", name), remedy))
    if faults:
        return 0, 0, faults
    room = total_steps - lengths["warmup"] - lengths["tail"]
    if room < max(windows, 1):
        what = (
            f"warm-up ({lengths['warmup']}) and tail ({lengths['tail']}) leave {max(room, 0)} of {total_steps} steps"
            f" for {windows} windows"
        )
        remedy = "each window takes a step at least: give the run more of them, or shorten warm-up or tail"
        faults.append(Offence(what, spec.where("progression", "warmup"), remedy))
    return lengths["warmup"], total_steps - lengths["tail"], faults

"""`diagnose`: what every front end makes of a model, what stands in the way, and what would help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from frostline.compiler.capture import Attempt, attempts
from frostline.compiler.net import modes_of
from frostline.compiler.sites import Site, sites
from frostline.compiler.unreached import Unreached, unreached


@dataclass(frozen=True)
class Diagnosis:
    """The attempts of all front ends at a model, and what the first that succeeded leads to. Its text is a report."""

    model: str
    attempts: tuple[Attempt, ...]
    sites: tuple[Site, ...]
    unreached: tuple[Unreached, ...]

    @property
    def winner(self) -> Attempt | None:
        """The attempt that `capture` takes: the first that was proven."""
        return next((attempt for attempt in self.attempts if attempt.graph is not None), None)

    def __str__(self) -> str:
        return "\n".join(_report(self))


def diagnose(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Diagnosis:
    """Run all front ends over a model, also those that `capture` would not need.

    Raises CaptureError when the example does not fit the model, or when its weights are no float32.
    """
    tried = tuple(attempts(model, example_inputs, example_kwargs))
    graph = next((attempt.graph for attempt in tried if attempt.graph is not None), None)
    found = (sites(graph), unreached(graph)) if graph is not None else ((), ())
    return Diagnosis(type(model).__name__, tried, *found)


def _report(diagnosis: Diagnosis) -> Iterator[str]:
    winner = diagnosis.winner
    yield f"{diagnosis.model}: " + (f"captured by {winner.front_end}" if winner else "no front end captures it")
    for attempt in diagnosis.attempts:
        yield ""
        yield from _of_attempt(attempt, "taken" if attempt is winner else "works as well")
    yield ""
    yield from _of_sites(diagnosis)


def _of_attempt(attempt: Attempt, verdict: str) -> Iterator[str]:
    if attempt.graph is None:
        yield f"{attempt.front_end}: fails"
        yield from (line for reason in attempt.reasons for line in str(reason).splitlines())
        return
    graph = attempt.graph
    yield f"{attempt.front_end}: {verdict}"
    yield f"  {attempt.proof}"
    two = [part for part in graph.parts() if modes_of(part.module).training is not None]
    if two:
        yield f"  train mode runs another graph than eval mode{' in ' + _listed(two) if graph.regions else ''}"
    if any(modes_of(part.module).refused for part in graph.parts()):
        yield "  eval mode only: the model itself does not run in train mode on its example"
    if graph.regions:
        yield f"  regions: {', '.join(graph.regions)}"
        yield "  a branch that the example did not take was not seen"
        if graph.separate_regions:
            yield "  each region can be an ONNX file, the whole cannot"
        else:
            yield "  eval mode is captured whole, and can be one ONNX file"


def _listed(parts: list[Any]) -> str:
    return ", ".join(part.region for part in parts)


def _of_sites(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.winner is None:
        yield "no sites: rewrite what stands in the way above, or capture the submodules that you want to turn binary"
        return
    weights = [site for site in diagnosis.sites if site.kind == "weight"]
    activations = [site for site in diagnosis.sites if site.kind == "activation"]
    levels = len({site.depth for site in diagnosis.sites})
    yield f"{len(weights)} weights and {len(activations)} activations can turn binary, in {levels} levels of depth"
    if diagnosis.unreached:
        yield "not reachable, and therefore float:"
        for one in diagnosis.unreached:
            yield f"  {one.where + ': ' if one.where else ''}{one.name}: {one.why}"
    positive = [site for site in activations if site.never_negative]
    if positive:
        yield "never negative, so that their signs would all be +1 (choose levels: [0, 1], or keep them float):"
        yield from (f"  {site.where + ': ' if site.where else ''}{site.name}" for site in positive)
    mixed = [site for site in diagnosis.sites if site.channel is None]
    if mixed:
        yield "without one axis of channels (per: element):"
        yield from (f"  {site.where + ': ' if site.where else ''}{site.name}" for site in mixed)

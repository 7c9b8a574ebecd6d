"""Passes and their runner: a pass rewrites its own copy of a graph, the runner checks everything before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar

from frostline.compiler.graph import Graph
from frostline.errors import Offence, PassError

Violation = Offence
"""One place where a graph breaks an invariant, with the user's line."""

Invariant = Callable[[Graph], Iterable[Violation]]
"""Yields every violation of one property; its name is the property's."""


class Pass(ABC):
    """One rewrite of the graph. Subclasses are frozen dataclasses, and their docstring is the rewrite rule."""

    requires: ClassVar[tuple[Invariant, ...]] = ()
    ensures: ClassVar[tuple[Invariant, ...]] = ()

    @abstractmethod
    def rewrite(self, graph: Graph) -> None:
        """Change the graph in place. The runner has copied it, and will lint, recompile and check it."""

    def __str__(self) -> str:
        return type(self).__name__


def run(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """The graph after all passes, which rewrite each of its parts; the given one is not changed.

    Raises PassError with every violation when an invariant that a pass requires or ensures does not hold.
    """
    for _, after in trace(graph, passes):
        graph = after
    return graph


def trace(graph: Graph, passes: Sequence[Pass]) -> Iterator[tuple[Pass, Graph]]:
    """Each pass with the graph after it, in order. Raises PassError, as `run` does."""
    for one in passes:
        check(graph, one.requires, f"{one} cannot run: the graph is not {{}}")
        graph = graph.copy()
        for part in graph.parts():
            one.rewrite(part)
            part.module.graph.lint()
            part.module.recompile()
        check(graph, one.ensures, f"{one} left a graph that is not {{}}")
        yield one, graph


def check(graph: Graph, invariants: Sequence[Invariant], headline: str) -> None:
    """Raise PassError with every violation of every invariant; `{}` in the headline becomes the broken ones' names."""
    broken = {each.__name__: [violation for part in graph.parts() for violation in each(part)] for each in invariants}
    names = [name for name, violations in broken.items() if violations]
    if names:
        raise PassError(headline.format(" and ".join(names)), [v for name in names for v in broken[name]])

"""Depth: how deep in a model an operation lies, counted in operations, by one of three rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
from torch import fx, nn

from frostline.compiler.graph import facts
from frostline.schedules import DepthRule

RULES: tuple[DepthRule, DepthRule, DepthRule] = ("asap", "alap", "module")


@dataclass(frozen=True)
class Depths:
    """How deep an operation lies, from 1 on, by each rule.

    `asap`: as soon as possible, the most operations on a path from the input that ends with it. `alap`: as late as
    possible, the levels of the whole model less the operations that must follow; what lies on a longest path has the
    same depth by both. `module`: the place of the module that calls it among all that call one, in the order in which
    they are registered.
    """

    asap: int
    alap: int
    module: int

    def __add__(self, other: Depths) -> Depths:
        return Depths(self.asap + other.asap, self.alap + other.alap, self.module + other.module)

    def by(self, rule: DepthRule) -> int:
        """The depth by one of the rules.

        >>> Depths(asap=2, alap=4, module=3).by("alap")
        4
        """
        return {"asap": self.asap, "alap": self.alap, "module": self.module}[rule]


def levels_of(flow: Any, operations: Sequence[fx.Node]) -> dict[fx.Node, int]:
    """For every node of a data flow, the most operations on a path that ends with it."""
    counted = set(operations)
    levels: dict[fx.Node, int] = {}
    for node in nx.topological_sort(flow):
        above = max((levels[source] for source in flow.predecessors(node)), default=0)
        levels[node] = above + (node in counted)
    return levels


def depths_of(
    module: nn.Module,
    operations: Sequence[fx.Node],
    levels: Mapping[fx.Node, int],
    heights: Mapping[fx.Node, int],
) -> dict[fx.Node, Depths]:
    """The depths of operations: `levels` counts the most on a path that ends with each, `heights` that starts there."""
    deepest = max((levels[node] for node in operations), default=0)
    places = _places(module, [facts(node).path for node in operations])
    return {node: Depths(levels[node], deepest + 1 - heights[node], places[facts(node).path]) for node in operations}


def _places(module: nn.Module, paths: Iterable[str]) -> dict[str, int]:
    """The place of each module among these, from 1 on, in the order in which they are registered."""
    registered = {id(inner): index for index, (_, inner) in enumerate(module.named_modules())}
    indices = {path: registered[id(module.get_submodule(path))] for path in paths}
    ranks = {index: rank for rank, index in enumerate(sorted(set(indices.values())), 1)}
    return {path: ranks[index] for path, index in indices.items()}

"""Which operation reads the results of which, and where two of them meet: what the picture of a graph draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from frostline.amounts import Amounts
from frostline.compiler.flow import flow_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.products import asks_for_a_size
from frostline.compiler.rearrangements import called

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Join:
    """A call that reads the results of several operations, such as an addition; `after` is the greatest depth above."""

    key: str
    label: str
    after: int
    where: str | None


@dataclass(frozen=True)
class Wiring:
    """`edges` lead from the keys of operations and joins, or from the input, to those that read them, or the output."""

    joins: tuple[Join, ...]
    edges: tuple[tuple[str, str], ...]


def wiring(graph: Graph, amounts: Amounts) -> Wiring:
    """The wiring of a graph, region by region; the key of an operation is its name."""
    joins: dict[str, Join] = {}
    edges: dict[tuple[str, str], None] = {}
    depths = {work.name: work.depth for work in amounts.works}
    for part in graph.parts():
        own = {work.node[1]: work.name for work in amounts.works if work.node[0] == part.region}
        edges.update(dict.fromkeys(_of_part(part, own, depths, joins)))
    leading = {source for source, _ in edges}
    while dead := [key for key in joins if key not in leading]:
        edges = {edge: None for edge in edges if edge[1] not in dead}
        joins = {key: join for key, join in joins.items() if key not in dead}
        leading = {source for source, _ in edges}
    return Wiring(tuple(joins.values()), tuple(edges))


def _of_part(
    part: Graph, own: dict[str, str], depths: dict[str, int], joins: dict[str, Join]
) -> Iterator[tuple[str, str]]:
    """Edges; every value is carried by what made it last: the input, an operation, or a join."""
    between = flow_of(part).between
    carriers: dict[fx.Node, str | None] = {}
    same: dict[frozenset[str], str] = {}
    for node in part.nodes:
        above = dict.fromkeys(carriers[source] for source in between.predecessors(node))
        found = [carrier for carrier in above if carrier is not None]
        if node.op == "placeholder":
            carriers[node] = INPUT
        elif asks_for_a_size(node):
            carriers[node] = None
        elif node.name in own or node.op == "output":
            name = own.get(node.name, OUTPUT)
            yield from ((carrier, name) for carrier in found)
            carriers[node] = name
        elif len(found) > 1:
            key = same.get(frozenset(found))
            if key is None:
                key = same[frozenset(found)] = f"join {len(joins)}"
                after = max(joins[one].after if one in joins else depths.get(one, 0) for one in found)
                joins[key] = Join(key, _label(node), after, facts(node).where)
                yield from ((carrier, key) for carrier in found)
            carriers[node] = key
        else:
            carriers[node] = found[0] if found else None


def _label(node: fx.Node) -> str:
    """The name of the function, method or module that a node calls; `add`, also where it is written in place."""
    name = called(node) or str(node.target)
    return "add" if name in ("iadd", "add_") else name

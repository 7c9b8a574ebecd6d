"""Sites: the operands that can turn binary, found in the graph and ordered by depth.

A site is one value, a weight or an activation, with every operand that reads it: a weight used twice is one site, and
operations that read the same activation share one. Depth is the longest path from the input, counted in operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import networkx as nx
from torch import fx, nn

from frostline.compiler.graph import Graph, facts
from frostline.compiler.operations import Operation, operation_of

Kind = Literal["weight", "activation"]


@dataclass(frozen=True)
class Operand:
    """One use of a site: the argument of one operation.

    `node` and `argument` say where it stands in the graph, `name` is what users know it by, and `roles` are those
    of its operation: first, last, downsample.
    """

    name: str
    operation: str
    node: str
    argument: Literal["input", "weight"]
    depth: int
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """A value that can turn binary.

    `shape` is the shape of its mask: a weight's own, an activation's without the batch. `depth` is that of its first
    use, and `where` the user's line of it.
    """

    name: str
    depth: int
    kind: Kind
    shape: tuple[int, ...]
    where: str | None
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class _Use:
    node: fx.Node
    operation: Operation
    name: str
    weight: str


def sites(graph: Graph) -> tuple[Site, ...]:
    """All sites of a graph in depth order, ties in graph order. Parallel branches share a depth."""
    uses = list(_uses(graph))
    flow = _flow(graph.module.graph)
    depths = _levels(flow, uses)
    roles = _roles(graph, uses, flow, depths)
    parameters = dict(graph.module.named_parameters(remove_duplicate=False))
    found: dict[tuple[Kind, int], Site] = {}
    for use in uses:
        arguments = use.operation.bind(use.node)
        source, weight = arguments["input"], parameters[use.weight]
        common = (use.name, use.node.name)
        placed = (depths[use.node], roles[use.node])
        where = facts(use.node).where
        shape = facts(source).shape or ()
        candidates: tuple[tuple[Kind, int, tuple[int, ...], Operand], ...] = (
            ("activation", id(source), shape[1:], Operand(_joined(use.name, "activation"), *common, "input", *placed)),
            ("weight", id(weight), tuple(weight.shape), Operand(use.weight, *common, "weight", *placed)),
        )
        for kind, value, mask, operand in candidates:
            known = found.get((kind, value))
            if known is None:
                found[kind, value] = Site(operand.name, operand.depth, kind, mask, where, (operand,))
            else:
                depth = min(known.depth, operand.depth)
                found[kind, value] = replace(known, depth=depth, operands=(*known.operands, operand))
    return tuple(sorted(found.values(), key=lambda site: site.depth))


def _uses(graph: Graph) -> Iterator[_Use]:
    """Every operation whose weight is a parameter, with unique names."""
    aliases: dict[int, list[str]] = {}
    for alias, parameter in graph.module.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(alias)
    parameters = dict(graph.module.named_parameters(remove_duplicate=False))
    taken: set[str] = set()
    for node in graph.nodes:
        operation = operation_of(node)
        if operation is None:
            continue
        arguments = operation.bind(node)
        source, weight = arguments["input"], arguments["weight"]
        if not isinstance(source, fx.Node) or not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        held = parameters.get(str(weight.target))
        if held is None or not held.is_floating_point() or facts(source).shape is None:
            continue
        name = _operation_name(facts(node).path, aliases[id(held)])
        name = name or operation.name  # the model itself is the operation
        unique = next(n for i in count(1) if (n := name if i == 1 else f"{name}@{i}") not in taken)
        taken.add(unique)
        yield _Use(node, operation, unique, aliases[id(held)][0])


def _operation_name(path: str, aliases: list[str]) -> str:
    """What users call an operation: the module that runs it, if the weight is its own; else the weight's owner."""
    if _joined(path, "weight") in aliases:
        return path
    inside = [alias for alias in aliases if alias.startswith(f"{path}." if path else "")]
    return (inside or aliases)[0].removesuffix("weight").removesuffix(".")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _flow(graph: fx.Graph) -> Any:
    """The data flow between nodes, as a networkx graph."""
    flow: Any = nx.DiGraph()
    flow.add_nodes_from(graph.nodes)
    flow.add_edges_from((source, node) for node in graph.nodes for source in node.all_input_nodes)
    return flow


def _levels(flow: Any, uses: list[_Use]) -> dict[fx.Node, int]:
    """For every node, the most operations on a path that ends with it."""
    counted = {use.node for use in uses}
    levels: dict[fx.Node, int] = {}
    for node in nx.topological_sort(flow):
        above = max((levels[source] for source in flow.predecessors(node)), default=0)
        levels[node] = above + (node in counted)
    return levels


def _roles(graph: Graph, uses: list[_Use], flow: Any, depths: Mapping[fx.Node, int]) -> dict[fx.Node, tuple[str, ...]]:
    heights = _levels(flow.reverse(copy=False), uses)
    fed = _fed_by_floats(graph, flow)
    projections = set(_projections(graph, uses, depths))
    roles: dict[fx.Node, tuple[str, ...]] = {}
    for use in uses:
        holds = {
            "first": depths[use.node] == 1 and use.operation.bind(use.node)["input"] in fed,
            "last": heights[use.node] == 1,
            "downsample": use.node in projections,
        }
        roles[use.node] = tuple(role for role, true in holds.items() if true)
    return roles


def _fed_by_floats(graph: Graph, flow: Any) -> set[fx.Node]:
    """The nodes that a floating-point input of the model reaches."""
    fed: set[fx.Node] = set()
    for node in nx.topological_sort(flow):
        dtype = facts(node).dtype
        if node.op == "placeholder":
            reached = dtype is not None and dtype.is_floating_point
        else:
            reached = any(source in fed for source in flow.predecessors(node))
        if reached:
            fed.add(node)
    return fed


def _projections(graph: Graph, uses: list[_Use], depths: Mapping[fx.Node, int]) -> Iterator[fx.Node]:
    """The convolutions of one pixel that stand alone on the shorter side of an addition: projection shortcuts."""
    by_node = {use.node: use for use in uses}
    for addition in graph.nodes:
        sides = [side for side in addition.args[:2] if isinstance(side, fx.Node)] if _is_addition(addition) else []
        if len(sides) != 2:
            continue
        for side, other in (sides, sides[::-1]):
            nearest = list(_nearest(side, by_node))
            if len(nearest) == 1 and _one_pixel(nearest[0], graph.module) and depths[other] >= depths[nearest[0].node]:
                main = list(_nearest(other, by_node))
                if not (len(main) == 1 and _one_pixel(main[0], graph.module) and depths[other] == depths[side]):
                    yield nearest[0].node


def _is_addition(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", node.target)
    return node.op in ("call_function", "call_method") and name in ("add", "iadd", "add_")


def _nearest(node: fx.Node, uses: Mapping[fx.Node, _Use]) -> Iterator[_Use]:
    """The operations just above a value, not looking past additions."""
    waiting, seen = [node], {node}
    while waiting:
        here = waiting.pop()
        if here in uses:
            yield uses[here]
        elif not _is_addition(here):
            new = [source for source in here.all_input_nodes if source not in seen]
            seen.update(new)
            waiting += new


def _one_pixel(use: _Use, module: nn.Module) -> bool:
    shape = module.get_parameter(use.weight).shape
    return use.operation.spatial > 0 and all(size == 1 for size in shape[2:])

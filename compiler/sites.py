"""Sites: the operands that can turn binary, found in the graph and ordered by depth.

A site is one value, a weight or an activation, with every operand that reads it: a weight used twice is one site, and
operations that read the same activation share one. Depth is counted in operations, by one of three rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import networkx as nx
import torch
from torch import fx, nn

from frostline.compiler.depths import Depths, depths_of, levels_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.operations import Operation, operation_of
from frostline.compiler.signs import never_negative
from frostline.errors import CaptureError, Offence

Kind = Literal["weight", "activation"]


@dataclass(frozen=True)
class Operand:
    """One use of a site: the argument of one operation.

    `node` and `argument` say where it stands in the graph, `name` is what users know it by, and `roles` are those
    of its operation: first, last, downsample. `channel` is the axis of the site's shape that this operation takes for
    channels, an activation's counted from the end: a weight's outputs, an activation's inputs.
    """

    name: str
    operation: str
    node: str
    argument: Literal["input", "weight"]
    depths: Depths
    roles: tuple[str, ...] = ()
    channel: int = 0


@dataclass(frozen=True)
class Site:
    """A value that can turn binary.

    `shape` is a weight's own, an activation's without the batch. `depth` is that of its first use, as soon as possible
    until a plan counts it by another rule, and `where` the user's line of it. A value that is `never_negative` has one
    sign only.
    """

    name: str
    depth: int
    kind: Kind
    shape: tuple[int, ...]
    where: str | None
    operands: tuple[Operand, ...]
    never_negative: bool = False

    @property
    def channel(self) -> int | None:
        """The axis of `shape` that counts channels; None where its operations take different axes for them."""
        axes = {operand.channel % len(self.shape) for operand in self.operands if self.shape}
        return axes.pop() if len(axes) == 1 else None


@dataclass(frozen=True)
class _Use:
    node: fx.Node
    operation: Operation
    name: str
    weight: str
    source: fx.Node
    parameter: nn.Parameter


def sites(graph: Graph) -> tuple[Site, ...]:
    """All sites of a graph in the order of their depth as soon as possible, ties in graph order.

    Raises CaptureError where a weight is no float32, the one type that is trained and lowered.
    """
    uses = list(_uses(graph))
    flow = _flow(graph.module.graph)
    nodes = [use.node for use in uses]
    depths = levels_of(flow, nodes)
    heights = levels_of(flow.reverse(copy=False), nodes)
    roles = _roles(graph, uses, flow, depths, heights)
    counted = depths_of(graph.module, nodes, depths, heights)
    found: dict[tuple[Kind, int], Site] = {}
    for use in uses:
        where = facts(use.node).where
        placed = (counted[use.node], roles[use.node])
        read = Operand(
            _joined(use.name, "activation"), use.name, use.node.name, "input", *placed, use.operation.channel
        )
        weight = Operand(use.weight, use.name, use.node.name, "weight", *placed)
        positive = never_negative(use.source, graph.module)
        candidates: tuple[tuple[tuple[Kind, int], Operand, tuple[int, ...], bool], ...] = (
            (("activation", id(use.source)), read, _mask_shape(use.source), positive),
            (("weight", id(use.parameter)), weight, tuple(use.parameter.shape), False),
        )
        for key, operand, shape, sign in candidates:
            known = found.get(key)
            if known is None:
                found[key] = Site(operand.name, operand.depths.asap, key[0], shape, where, (operand,), sign)
            else:
                depth = min(known.depth, operand.depths.asap)
                found[key] = replace(known, depth=depth, operands=(*known.operands, operand))
    return tuple(sorted(found.values(), key=lambda site: site.depth))


def _mask_shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a value without the batch: no axis where it comes first, one entry where it comes later."""
    known = facts(node)
    sizes = tuple(1 if axis in known.batch else size for axis, size in enumerate(known.shape or ()))
    return sizes[1:] if 0 in known.batch else sizes


def _uses(graph: Graph) -> Iterator[_Use]:
    """Every operation of an activation and a parameter, with unique names."""
    parameters = dict(graph.module.named_parameters(remove_duplicate=False))
    aliases: dict[int, list[str]] = {}
    for alias, parameter in parameters.items():
        aliases.setdefault(id(parameter), []).append(alias)
    taken = {
        *parameters,
        *(name for name, _ in graph.module.named_buffers()),
        *(n for n, _ in graph.module.named_modules()),
    }
    taken_operations: set[str] = set()
    offences = []
    for node in graph.nodes:
        operation = operation_of(node)
        if operation is None:
            continue
        arguments = operation.bind(node)
        source, weight = arguments["input"], arguments["weight"]
        if not isinstance(source, fx.Node) or not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        held = parameters.get(str(weight.target))
        if held is None or source.op == "get_attr" or facts(source).shape is None:
            continue
        if held.dtype != torch.float32:
            offences.append(Offence(f"{weight.target} is {held.dtype}", facts(node).where, "use model.float()"))
            continue
        names = aliases[id(held)]
        name = _operation_name(facts(node).path, names) or operation.name  # or the model itself is the operation
        free = (name if i == 1 else f"{name}@{i}" for i in count(1))
        unique = next(n for n in free if n not in taken_operations and _joined(n, "activation") not in taken)
        taken_operations.add(unique)
        own = _joined(name, "weight")
        yield _Use(node, operation, unique, own if own in names else names[0], source, held)
    if offences:
        raise CaptureError("only float32 can be trained and lowered", offences)


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


def _roles(
    graph: Graph,
    uses: list[_Use],
    flow: Any,
    depths: Mapping[fx.Node, int],
    heights: Mapping[fx.Node, int],
) -> dict[fx.Node, tuple[str, ...]]:
    fed = _fed_by_floats(graph, flow)
    projections = set(_projections(graph, uses, depths))
    roles: dict[fx.Node, tuple[str, ...]] = {}
    for use in uses:
        holds = {
            "first": depths[use.node] == 1 and use.source in fed,
            "last": heights[use.node] == 1,
            "downsample": use.node in projections,
        }
        roles[use.node] = tuple(role for role, true in holds.items() if true)
    return roles


def _fed_by_floats(graph: Graph, flow: Any) -> set[fx.Node]:
    """The nodes that a floating-point input of the model reaches."""
    fed: set[fx.Node] = set()
    containers: set[fx.Node] = set()
    for node in nx.topological_sort(flow):
        dtype, above = facts(node).dtype, list(flow.predecessors(node))
        from_input = node.op == "placeholder" or any(source in containers for source in above)
        if dtype is None and from_input:
            containers.add(node)  # a dictionary or tuple of inputs
        elif (from_input and dtype is not None and dtype.is_floating_point) or any(source in fed for source in above):
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
            if len(nearest) != 1 or not _one_pixel(nearest[0]) or depths[other] < depths[nearest[0].node]:
                continue
            if not _reaches(nearest[0].node, other, depths):
                main = list(_nearest(other, by_node))
                if not (len(main) == 1 and _one_pixel(main[0]) and depths[other] == depths[side]):
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


def _reaches(node: fx.Node, below: fx.Node, depths: Mapping[fx.Node, int]) -> bool:
    """Whether a value follows from a node; only nodes at least as deep can."""
    waiting, seen = [below], {below}
    while waiting:
        here = waiting.pop()
        if here is node:
            return True
        new = [s for s in here.all_input_nodes if s not in seen and depths[s] >= depths[node]]
        seen.update(new)
        waiting += new
    return False


def _one_pixel(use: _Use) -> bool:
    return use.operation.spatial > 0 and all(size == 1 for size in use.parameter.shape[2:])

"""Sites: the operands that can turn binary, found in the graph and ordered by depth.

A site is one value, a weight or an activation, with every operand that reads it: a weight used twice is one site, and
operations that read the same activation share one. A weight's site is the parameter itself, or what is computed from
parameters; views of it lie between the site and its operands. Depth is counted in operations, by one of three rules.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import fx

from frostline.compiler.channels import channels_of
from frostline.compiler.depths import RULES, Depths, depths_of, levels_of
from frostline.compiler.flow import flow_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.names import Names, joined
from frostline.compiler.products import products_of
from frostline.compiler.rearrangements import root_of
from frostline.compiler.roles import roles_of
from frostline.compiler.signs import never_negative
from frostline.compiler.structure import structures
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
    channel: int | None = 0

    @property
    def key(self) -> tuple[str, str]:
        """What it is in every graph of a model, of either mode and for any call."""
        return self.operation, self.argument


@dataclass(frozen=True)
class Site:
    """A value that can turn binary.

    `shape` is a weight's own, an activation's without the batch. `depth` is that of its first use, as soon as possible
    until a plan counts it by another rule, and `where` the user's line of it. A value that is `never_negative` has one
    sign only. `region` is the part of the graph that it lies in.
    """

    name: str
    depth: int
    kind: Kind
    shape: tuple[int, ...]
    where: str | None
    operands: tuple[Operand, ...]
    never_negative: bool = False
    region: str = ""

    @property
    def channel(self) -> int | None:
        """The axis of `shape` that counts channels; None where its operations take different axes for them."""
        found = {operand.channel for operand in self.operands if self.shape}
        axes = {None if axis is None else axis % len(self.shape) for axis in found}
        return axes.pop() if len(axes) == 1 else None


def sites(graph: Graph) -> tuple[Site, ...]:
    """All sites of a graph in the order of their depth as soon as possible, ties in graph order.

    Raises CaptureError where no weight is float32, the one type that is trained and lowered.
    """
    offences: list[Offence] = []
    parts = [_sites(part, offences) for part in graph.parts()]
    if offences and not any(parts):
        raise CaptureError("only float32 can be trained and lowered", offences)
    if graph.regions:
        registered = [path for path, _ in graph.module.named_modules() if path in graph.regions]
        parts = list(_in_a_row(parts, registered))
    return tuple(sorted((site for part in parts for site in part), key=lambda site: site.depth))


def _sites(graph: Graph, offences: list[Offence]) -> list[Site]:
    found: dict[Hashable, Site] = {}
    for key, site in _uses(graph, offences):
        known = found.get(key)
        if known is None:
            found[key] = site
        else:
            depth = min(known.depth, site.depth)
            found[key] = replace(known, depth=depth, operands=known.operands + site.operands)
    return list(found.values())


def _in_a_row(parts: Sequence[Sequence[Site]], registered: Sequence[str]) -> Iterator[list[Site]]:
    """Regions run one after the other: depths go on, and only the outermost have a first and a last.

    The rule `module` goes by the order in which they are registered.
    """
    filled = {part[0].region: part for part in parts if part}
    levels = {region: _levels(part) for region, part in filled.items()}
    asap = alap = 0
    for index, (region, part) in enumerate(filled.items()):
        lost = {"first"} if index else set()
        lost |= {"last"} if index < len(filled) - 1 else set()
        earlier = registered[: registered.index(region)]
        module = sum(levels[other].module for other in earlier if other in levels)
        yield [_after(site, Depths(asap, alap, module), lost) for site in part]
        asap, alap = asap + levels[region].asap, alap + levels[region].alap


def _levels(part: Sequence[Site]) -> Depths:
    """The greatest depth in a region, by each rule."""
    depths = [operand.depths for site in part for operand in site.operands]
    return Depths(*(max(one.by(rule) for one in depths) for rule in RULES))


def _after(site: Site, before: Depths, lost: set[str]) -> Site:
    operands = tuple(
        replace(one, depths=one.depths + before, roles=tuple(role for role in one.roles if role not in lost))
        for one in site.operands
    )
    return replace(site, depth=site.depth + before.asap, operands=operands)


def _uses(graph: Graph, offences: list[Offence]) -> Iterator[tuple[Hashable, Site]]:
    """Every operand as a site of its own, under a key that is the same for operands of one site.

    Weights that are no float32 are no sites, but `offences`.
    """
    products, flow, names = products_of(graph), flow_of(graph), Names(graph)
    region = graph.region
    nodes = [product.node for product in products]
    levels = levels_of(flow.between, nodes)
    heights = levels_of(flow.between.reverse(copy=False), nodes)
    depths = depths_of(graph.module, nodes, levels, heights)
    roles = roles_of(graph, products, flow, levels, heights)
    same = structures(graph)
    for product in products:
        node, read, root = product.node, product.activation, root_of(product.weight)
        name, weight = names.of(product)
        placed, where = (depths[node], roles[node]), facts(node).where
        if facts(root).dtype != torch.float32:
            offences.append(Offence(f"{weight} is {facts(root).dtype}", where, "use model.float()"))
            continue
        channels, outputs = channels_of(product)
        operand = Operand(joined(name, "activation"), name, node.name, "input", *placed, channels)
        positive = never_negative(read, graph)
        depth, shape, key = depths[node].asap, _without_batch(read), flow.version(node, read)
        yield key, Site(operand.name, depth, "activation", shape, where, (operand,), positive, region)
        operand = Operand(weight, name, node.name, "weight", *placed, outputs)
        shape = facts(root).shape or ()
        yield same[root], Site(weight, depth, "weight", shape, where, (operand,), region=region)


def _without_batch(node: fx.Node) -> tuple[int, ...]:
    """The shape of a value without the batch: no axis where it comes first, one entry where it comes later."""
    known = facts(node)
    sizes = tuple(1 if axis in known.batch else size for axis, size in enumerate(known.shape or ()))
    return sizes[1:] if 0 in known.batch else sizes

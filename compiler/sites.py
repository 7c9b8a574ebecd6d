"""Sites: the operands that can turn binary, found in the graph and ordered by depth.

A site is one value, a weight or an activation, with every operand that reads it: a weight used twice is one site, and
operations that read the same activation share one. A weight's site is the parameter itself, or what is computed from
parameters; views of it lie between the site and its operands. Depth is the longest path from the input, counted in
operations.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import fx

from frostline.compiler.depth import depths_of, roles_of
from frostline.compiler.flow import flow_of
from frostline.compiler.graph import Graph, facts
from frostline.compiler.names import Names, joined
from frostline.compiler.products import products_of
from frostline.compiler.rearrangements import root_of
from frostline.compiler.signs import never_negative
from frostline.compiler.structure import structures
from frostline.errors import CaptureError, Offence

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
    use, and `where` the user's line of it. A value that is `never_negative` has one sign only.
    """

    name: str
    depth: int
    kind: Kind
    shape: tuple[int, ...]
    where: str | None
    operands: tuple[Operand, ...]
    never_negative: bool = False


def sites(graph: Graph) -> tuple[Site, ...]:
    """All sites of a graph in depth order, ties in graph order. Parallel branches share a depth.

    Raises CaptureError where a weight is no float32, the one type that is trained and lowered.
    """
    found: dict[Hashable, Site] = {}
    for key, site in _uses(graph):
        known = found.get(key)
        if known is None:
            found[key] = site
        else:
            depth = min(known.depth, site.depth)
            found[key] = replace(known, depth=depth, operands=known.operands + site.operands)
    return tuple(sorted(found.values(), key=lambda site: site.depth))


def _uses(graph: Graph) -> Iterator[tuple[Hashable, Site]]:
    """Every operand as a site of its own, under a key that is the same for operands of one site."""
    products, flow, names = products_of(graph), flow_of(graph), Names(graph)
    depths = depths_of(flow, products)
    roles = roles_of(graph, products, flow, depths)
    same = structures(graph)
    offences = []
    for product in products:
        node, read, root = product.node, product.activation, root_of(product.weight)
        name, weight = names.of(product)
        placed, where = (depths[node], roles[node]), facts(node).where
        if facts(root).dtype != torch.float32:
            offences.append(Offence(f"{weight} is {facts(root).dtype}", where, "use model.float()"))
        operand = Operand(joined(name, "activation"), name, node.name, "input", *placed)
        positive = never_negative(read, graph)
        yield (
            flow.version(node, read),
            Site(operand.name, operand.depth, "activation", _without_batch(read), where, (operand,), positive),
        )
        operand = Operand(weight, name, node.name, "weight", *placed)
        yield same[root], Site(weight, operand.depth, "weight", facts(root).shape or (), where, (operand,))
    if offences:
        raise CaptureError("only float32 can be trained and lowered", offences)


def _without_batch(node: fx.Node) -> tuple[int, ...]:
    """The shape of a value without the batch: no axis where it comes first, one entry where it comes later."""
    known = facts(node)
    sizes = tuple(1 if axis in known.batch else size for axis, size in enumerate(known.shape or ()))
    return sizes[1:] if 0 in known.batch else sizes

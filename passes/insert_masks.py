from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import captured, masked
from frostline.compiler.masks import Mask
from frostline.compiler.operations import Operation, operation_of
from frostline.compiler.plan import Plan, Turn
from frostline.compiler.rewriting import Invariant, Pass
from frostline.errors import Offence, PassError

HOME = "frostline_masks"
"""The submodule that holds the masks; `frostline_masks.layer1.0.conv1.weight` is the mask of that weight."""


@dataclass(frozen=True)
class InsertMasks(Pass):
    """conv(x, w) -> conv(mask(x), mask(w)), for every operand that turns in the plan."""

    plan: Plan

    requires: ClassVar[tuple[Invariant, ...]] = (captured,)
    ensures: ClassVar[tuple[Invariant, ...]] = (masked,)

    def rewrite(self, graph: Graph) -> None:
        nodes = {node.name: node for node in graph.nodes}
        unknown = [t.site.name for t in self.plan.turns if any(o.node not in nodes for o in t.site.operands)]
        if unknown:
            offences = [Offence(f"{name} is not in this graph") for name in unknown]
            raise PassError("the plan was made for another graph", offences)
        for turn in self.plan.turns:
            _insert(graph, turn, nodes)


def _insert(graph: Graph, turn: Turn, nodes: dict[str, fx.Node]) -> None:
    site = turn.site
    readers = [(nodes[operand.node], _operation(nodes[operand.node]), operand) for operand in site.operands]
    first, operation, operand = readers[0]
    source = operation.bind(first)[operand.argument]
    target = f"{HOME}.{site.name}"
    weight = graph.module.get_parameter(str(source.target)) if site.kind == "weight" else None
    device = weight.device if weight is not None else next(graph.module.parameters()).device
    graph.module.add_submodule(target, Mask(turn.shape, turn.frozen, turn.levels, device, site.name, site.where))
    # Before the first reader, not after the source: what changes the source in place lies between.
    with graph.module.graph.inserting_before(first):
        mask = graph.module.graph.call_module(target, (source,))
    set_facts(mask, replace(facts(source), name=site.name, where=site.where))
    for node, operation, operand in readers:
        set_facts(node, replace(facts(node), name=operand.operation))
        operation.rebind(node, operand.argument, mask)


def _operation(node: fx.Node) -> Operation:
    operation = operation_of(node)
    if operation is None:
        raise PassError("the plan was made for another graph", [Offence(f"%{node.name} is no operation")])
    return operation

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import captured, masked
from frostline.compiler.masks import Mask
from frostline.compiler.operations import operation_of
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
    source = _operand(nodes[site.operands[0].node], site.operands[0].argument)
    target = f"{HOME}.{site.name}"
    weight = graph.module.get_parameter(str(source.target)) if site.kind == "weight" else None
    device = weight.device if weight is not None else next(graph.module.parameters()).device
    graph.module.add_submodule(target, Mask(site.shape, turn.frozen, device))
    # Before the first reader, not after the source: what changes the source in place lies between.
    with graph.module.graph.inserting_before(nodes[site.operands[0].node]):
        mask = graph.module.graph.call_module(target, (source,))
    set_facts(mask, replace(facts(source), name=site.name, where=site.where))
    for operand in site.operands:
        node = nodes[operand.node]
        set_facts(node, replace(facts(node), name=operand.operation))
        _set_operand(node, operand.argument, mask)


def _operand(node: fx.Node, argument: str) -> fx.Node:
    operation = operation_of(node)
    value = operation.bind(node)[argument] if operation else None
    if not isinstance(value, fx.Node):
        raise PassError(f"%{node.name} has no {argument} in the graph")
    return value


def _set_operand(node: fx.Node, argument: str, value: fx.Node) -> None:
    """Replace one argument of a call, and no other use of the same value."""
    operation = operation_of(node)
    if operation is None:
        raise PassError(f"%{node.name} is no operation")
    index = operation.arguments.index(argument)
    if index < len(node.args):
        node.update_arg(index, value)
    else:
        node.update_kwarg(argument, value)

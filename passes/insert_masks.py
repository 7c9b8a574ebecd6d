from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import fx

from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import captured, masked
from frostline.compiler.masks import Mask, Ramp
from frostline.compiler.names import Names, joined
from frostline.compiler.operations import has_bit_form
from frostline.compiler.plan import Plan, Turn
from frostline.compiler.products import Product, above, held_parameters, products_of
from frostline.compiler.rearrangements import chain_to, root_of
from frostline.compiler.rewriting import Invariant, Pass
from frostline.compiler.sites import Site, sites
from frostline.errors import Offence, PassError, PlanError

HOME = "frostline_masks"
"""The submodule that holds the masks; `frostline_masks.layer1.0.conv1.weight` is the mask of that weight."""


@dataclass(frozen=True)
class InsertMasks(Pass):
    """conv(x, t(w)) -> conv(mask(x), t(mask(w))), for every operand that turns in the plan."""

    plan: Plan

    requires: ClassVar[tuple[Invariant, ...]] = (captured,)
    ensures: ClassVar[tuple[Invariant, ...]] = (masked,)

    def rewrite(self, graph: Graph) -> None:
        products = _products(graph)
        _note_kept(graph, self.plan, products)
        turns = [turn for turn in self.plan.turns if turn.site.region == graph.region]
        unknown = [turn.site.name for turn in turns if any(o.node not in products for o in turn.site.operands)]
        if unknown:
            offences = [Offence(f"{name} is not in this graph") for name in unknown]
            raise PassError("the plan was made for another graph", offences)
        training = graph.in_training()
        found = sites(training) if training is not None else ()
        trained = [_as_trained(turn, found) for turn in turns]
        faults = [fault for turn in turns for fault in _impossible(self.plan, turn, products)]
        if training is not None:
            others = _products(training)
            faults += [*_unmasked(turns, found), *(f for turn in trained for f in _impossible(self.plan, turn, others))]
        if faults:
            raise PlanError("the plan asks of some weights what they cannot do", dict.fromkeys(faults))
        names = {turn.site.name for turn in turns}
        targets = {turn.site.name: _target(turn.site.name, names) for turn in turns}
        for turn in turns:
            graph.module.add_submodule(targets[turn.site.name], _mask(graph, self.plan, turn, products))
        training = graph.in_training()  # once more, now that it has the masks
        if training is not None:
            _insert(training, [(turn, targets[turn.site.name]) for turn in trained], _products(training))
        _insert(graph, [(turn, targets[turn.site.name]) for turn in turns], products)


def _note_kept(graph: Graph, plan: Plan, products: dict[str, Product]) -> None:
    """Note at every product why the plan keeps an operand of it float, for those who read the exported file."""
    names, reasons = Names(graph), {one.name: one.why for one in plan.kept_float}
    for product in products.values():
        name, weight = names.of(product)
        why = reasons.get(weight) or reasons.get(joined(name, "activation"))
        if why:
            set_facts(product.node, replace(facts(product.node), kept=why))


def _as_trained(turn: Turn, others: Sequence[Site]) -> Turn:
    """The same turn, for the operands of the same names in the graph of train mode."""
    places = {other.key: other.node for site in others for other in site.operands}
    operands = tuple(
        replace(operand, node=places[operand.key]) for operand in turn.site.operands if operand.key in places
    )
    return replace(turn, site=replace(turn.site, operands=operands))


def _target(name: str, names: set[str]) -> str:
    """Where a mask is held. No mask holds another: beside the parameter `w`, `w.activation` is at `w_activation`."""
    owner, _, own = name.rpartition(".")
    return f"{HOME}.{owner}_{own}" if owner in names else f"{HOME}.{name}"


def _unmasked(turns: Sequence[Turn], trained: Sequence[Site]) -> Iterator[Offence]:
    """Operations that read a weight which turns, but in train mode only, where the plan does not see them."""
    names = {turn.site.name for turn in turns if turn.site.kind == "weight"}
    seen = {operand.key for turn in turns for operand in turn.site.operands}
    for site in trained:
        if site.kind == "weight" and site.name in names:
            for operand in site.operands:
                if operand.key not in seen:
                    what = f"{operand.operation} reads {site.name} in train mode only, where no mask would be"
                    yield Offence(what, site.where, f'keep it float: "{site.name}" in keep_float')


def _impossible(plan: Plan, turn: Turn, products: dict[str, Product]) -> Iterator[Offence]:
    """What only a parameter can do that an operation reads as it is: to be held, and to be scaled by channel."""
    if turn.site.kind == "activation":
        return
    used = [products[operand.node] for operand in turn.site.operands]
    parameter = all(chain_to(product.weight)[0].op == "get_attr" for product in used)
    if plan.spec.progression.hold and not parameter:
        what = f"{turn.site.name} is computed from parameters, whose entries cannot be held"
        yield Offence(what, plan.spec.where("progression", "hold"), "leave hold out, or keep it float")
    plain = parameter and all(len(chain_to(product.weight)) == 1 for product in used)
    if turn.scale == "channel" and not (plain and all(has_bit_form(product.operation) for product in used)):
        what = f"{turn.site.name} is not read as it is, by linear layers or convolutions alone"
        remedy = f'add the override {{sites: "{turn.site.name}", scale: none}}'
        yield Offence(what, plan.spec.where("binarize", "scale"), remedy)


def _mask(graph: Graph, plan: Plan, turn: Turn, products: dict[str, Product]) -> Mask:
    site = turn.site
    options: dict[str, Any] = {"device": _device(graph, turn, products), "name": site.name, "where": site.where}
    if turn.scale == "channel":
        options["scaled"] = site.channel
    if turn.transition == "sharpen":
        return Ramp(turn.gradient, turn.levels, **options)
    held = plan.spec.progression.hold and site.kind == "weight"
    return Mask(_shape(turn, products), turn.gradient, turn.levels, hold=site.shape if held else None, **options)


def _shape(turn: Turn, products: dict[str, Product]) -> tuple[int, ...]:
    """The shape of a mask; that of images has a batch of 1, so that `to(memory_format=...)` orders it as images."""
    read = products[turn.site.operands[0].node].activation
    images = turn.site.kind == "activation" and len(turn.shape) >= 3 and 0 in facts(read).batch
    return (1, *turn.shape) if images else turn.shape


def _products(graph: Graph) -> dict[str, Product]:
    return {product.node.name: product for product in products_of(graph)}


def _insert(graph: Graph, turns: Sequence[tuple[Turn, str]], products: dict[str, Product]) -> None:
    for turn, target in turns:
        _apply(graph, turn, target, products)
    _forget_views(graph, products)


def _apply(graph: Graph, turn: Turn, target: str, products: dict[str, Product]) -> None:
    """One mask, read by all operands of the site; a view of the value becomes a view of the masked value."""
    site = turn.site
    masks: dict[object, fx.Node] = {}
    views: dict[tuple[fx.Node, str], fx.Node] = {}
    for operand in site.operands:
        product = products[operand.node]
        set_facts(product.node, replace(facts(product.node), name=operand.operation))
        source, *chain = chain_to(product.weight) if operand.argument == "weight" else [product.activation]
        # Before the first reader, not after the source: what changes the source in place lies between.
        with graph.module.graph.inserting_before(product.node):
            # A weight that is computed twice may differ from one time to the next, and each is masked where it stands.
            value = source.target if source.op == "get_attr" else source
            if value not in masks:
                masks[value] = graph.module.graph.call_module(target, (source,))
                set_facts(masks[value], replace(facts(source), name=site.name, where=site.where))
            masked_value = masks[value]
            for view in chain:
                key = masked_value, repr((view.op, view.target, view.args[1:], view.kwargs))
                if key not in views:
                    views[key] = _same_view(graph, view, masked_value)
                masked_value = views[key]
        product.rebind(operand.argument, masked_value)


def _same_view(graph: Graph, view: fx.Node, source: fx.Node) -> fx.Node:
    first = view.args[0]
    return graph.module.graph.node_copy(view, lambda node: source if node is first else node)


def _device(graph: Graph, turn: Turn, products: dict[str, Product]) -> torch.device:
    """Where the mask lies: beside the parameter that it masks; an activation's, beside the model's first."""
    product = products[turn.site.operands[0].node]
    own = held_parameters(graph, above(root_of(product.weight)) if turn.site.kind == "weight" else ())
    return next((parameter.device for _, parameter in own), next(graph.module.parameters()).device)


def _forget_views(graph: Graph, products: dict[str, Product]) -> None:
    """Drop the views of unmasked weights that no one reads any more."""
    for product in products.values():
        for view in reversed(chain_to(product.weight)[1:]):
            if not view.users:
                graph.module.graph.erase_node(view)

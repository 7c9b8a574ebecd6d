from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, fx

from frostline.compiler.channelwise import Chain, Chains, unseen
from frostline.compiler.evaluating import Evaluator
from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, integer, levels_of
from frostline.compiler.masks import binarize, binarize_at
from frostline.compiler.pooling import max_pool_of
from frostline.compiler.products import above
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import Writer
from frostline.schedules import SIGNS, Levels

_AT_ONCE = 2**22
"""How many values are searched at once."""


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """binarize(batch_norm(dot)) -> binarize_at(dot, thresholds, high): one integer threshold a channel.

    Whatever changes the integer on its way, channel by channel, is folded: biases, scales, activations, Dropout. A
    threshold is searched, never solved for: every integer that can occur goes through the graph's own nodes, and the
    values decide. `binarize` moves before max poolings and rearrangements on its way.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary, integer)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary, integer)

    def rewrite(self, graph: Graph) -> None:
        chains = Chains.of(graph)
        found = [
            (node, chain, thresholds)
            for node in graph.nodes
            if node.target is binarize and (chain := _chain_before(node, chains)) is not None
            if (thresholds := _thresholds(chain, levels_of(node), chains.evaluator)) is not None
        ]
        for node, chain, thresholds in found:
            _write(graph, node, chain, *thresholds)
        _forget(graph, [chain for _, chain, _ in found])


def _chain_before(node: fx.Node, chains: Chains) -> Chain | None:
    """What an integer goes through before it becomes binary, where that is something."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    chain = chains.ending_at(source, node)
    return chain if chain is not None and chain.links else None


def _thresholds(chain: Chain, levels: Levels, evaluator: Evaluator) -> tuple[Tensor, Tensor] | None:
    """By channel, the smallest integer that becomes `high`, and `high`.

    The larger level, or the smaller one where the values fall. A channel that is constant has a threshold that all
    integers reach, or none. None where the values of a channel rise and fall, or are not numbers.
    """
    highs = torch.zeros(chain.channels, dtype=torch.int64)
    turns, last = torch.zeros_like(highs), None
    for integers in _integers(chain):
        made = integers
        for link, source in chain.links:
            made = evaluator.after(link, source, made)
        if made.isnan().any():
            return None
        is_high = (binarize(made, levels) == max(levels)).movedim(chain.axis, -1).reshape(-1, chain.channels)
        joined = torch.cat([is_high[:1] if last is None else last, is_high])
        turns += (joined[1:] != joined[:-1]).sum(0)
        highs, last = highs + is_high.sum(0), is_high[-1:]
    if last is None or turns.max() > 1:
        return None
    falls = ~last[0] & (turns == 1)
    thresholds = torch.where(falls, highs - chain.bound, chain.bound + 1 - highs)
    high = torch.where(falls, float(min(levels)), float(max(levels)))
    return thresholds.to(torch.float32), high


def _integers(chain: Chain) -> Iterator[Tensor]:
    """Every integer from -bound to bound in every channel, `[integers, 1, ..., channels, ..., 1]`, part by part.

    Laid out densely, as the values of the operation are: torch rounds BatchNorm otherwise where strides are not.
    """
    shape = [1] * (len(chain.shape) - 1)
    shape[chain.axis] = chain.channels
    step = max(1, _AT_ONCE // chain.channels)
    for start in range(-chain.bound, chain.bound + 1, step):
        part = torch.arange(start, min(start + step, chain.bound + 1), dtype=torch.float32)
        yield part.reshape(-1, *(1 for _ in shape)).expand(-1, *shape).contiguous()


def _write(graph: Graph, node: fx.Node, chain: Chain, thresholds: Tensor, high: Tensor) -> None:
    """Compare right behind the integer, before anything can write into it; what moved before moves the result."""
    name, levels = facts(node).name, levels_of(node)
    kwargs = {} if levels == SIGNS else {"levels": levels}
    behind = Writer(graph, chain.integer.next, line=node)
    shape = (-1, *(1 for _ in range(-1 - chain.axis)))
    device = next((tensor.device for tensor in graph.module.state_dict().values()), None)
    read = [
        behind.held(f"{name}_{what}", tensor.reshape(shape).to(device))
        for what, tensor in (("thresholds", thresholds), ("high", high))
    ]
    value = behind(binarize_at, chain.integer, *read, name=name, **kwargs)
    write = Writer(graph, node)
    for move in chain.moves:
        value = _moved(move, value, write)
    write.replace(value)


def _moved(move: fx.Node, value: fx.Node, write: Writer) -> fx.Node:
    pool = max_pool_of(move, write.graph)
    if pool is not None:
        return write(pool[0], value, *pool[1])
    with write.graph.module.graph.inserting_before(write.node):
        moved = write.graph.module.graph.node_copy(move, lambda each: value if each is move.args[0] else each)
    return set_facts(moved, replace(facts(move), name=None))


def _forget(graph: Graph, chains: list[Chain]) -> None:
    """Drop what only served values that are compared now."""
    served: set[fx.Node] = set()
    for chain in chains:
        served.update(chain.moves, (link for link, _ in chain.links))
        constants = [other for link, source in chain.links for other in link.all_input_nodes if other is not source]
        served.update(node for constant in constants for node in above(constant))
    for node in reversed(list(graph.nodes)):
        if node in served and not node.users and unseen(node, graph, (binarize_at,)):
            graph.module.graph.erase_node(node)

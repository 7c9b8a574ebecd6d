"""Chains of calls that change each entry for itself, alike within a channel, from an integer value on."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from frostline.compiler.evaluating import Evaluator
from frostline.compiler.flow import Flow, flow_of, handed_on, written
from frostline.compiler.graph import Graph, facts
from frostline.compiler.integers import Integer, integers_of
from frostline.compiler.net import modes_of
from frostline.compiler.pooling import max_pool_of
from frostline.compiler.products import above
from frostline.compiler.rearrangements import called, rearranged

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_RISING_MODULES = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_ARITHMETIC = {"add", "sub", "mul", "div", "true_divide", "neg"}
_RISING = {"relu", "relu6", "hardtanh", "clamp", "tanh", "sigmoid", "dropout"}
"""Their values never fall where the input rises, and are the same for every channel."""
_OTHERS = {"leaky_relu", "prelu"}
_OF_CONSTANTS = _ARITHMETIC | {"truediv", "exp", "abs", "sqrt", "rsqrt", "sigmoid", "softplus", "tanh"}
"""What makes constants of constants, besides rearrangements. No random numbers."""
_OPERATORS = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.truediv: "div", operator.neg: "neg",
    operator.iadd: "add", operator.isub: "sub", operator.imul: "mul", operator.itruediv: "div",
}  # fmt: skip
_FUNCTIONS = _OPERATORS | {
    getattr(space, spelled): name
    for name in _ARITHMETIC | _RISING | _OTHERS
    for spelled in (name, f"{name}_")
    for space in (torch, functional)
    if hasattr(space, spelled)
}


@dataclass(frozen=True)
class Chain:
    """From an integer to another value: `links` change entries, then `moves` select and rearrange them.

    What stands behind the first move is among the links, because it rises with its input and is the same for every
    channel: before the moves it gives the same. Each link stands with the value that it changes. `axis`, from the end,
    is that of the channels.
    """

    integer: fx.Node
    bound: int
    axis: int
    links: tuple[tuple[fx.Node, fx.Node], ...]
    moves: tuple[fx.Node, ...]

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def shape(self) -> tuple[int, ...]:
        """The integer's shape."""
        return facts(self.integer).shape or ()


@dataclass(frozen=True)
class Chains:
    """Finds chains in a graph as it is now."""

    graph: Graph
    integers: Mapping[fx.Node, Integer]
    flow: Flow
    evaluator: Evaluator
    written: frozenset[Any]
    """The names of parameters and buffers that calls write into."""

    @classmethod
    def of(cls, graph: Graph) -> Chains:
        flow = flow_of(graph)
        targets = [target for node in graph.nodes if (target := written(node, graph)) is not None]
        names = frozenset(owner.target for target in targets if (owner := flow.owners[target]).op == "get_attr")
        return cls(graph, integers_of(graph), flow, Evaluator(graph.module, "cpu"), names)

    def ending_at(self, node: fx.Node, reader: fx.Node) -> Chain | None:
        """The chain that makes a value as a reader sees it; None where it does not begin at an integer."""
        links: list[tuple[fx.Node, fx.Node]] = []
        moves: list[fx.Node] = []
        here, rising, before = node, True, {}
        while True:
            before[here] = self.flow.last_writes[reader].get(here)
            source = _changed(here, self.graph)
            if source is not None:
                links.insert(0, (here, source))
                rising = rising and _rises(here, self.graph)
            elif rising and (source := _moved(here, self.graph)) is not None:
                moves.insert(0, here)
            else:
                break
            reader, here = here, source
        known, rank = self.integers.get(here), len(facts(here).shape or ())
        if known is None or known.axis is None or rank + known.axis < 1 or not _own_writes(before):
            return None
        constants = [other for link, source in links for other in link.all_input_nodes if other is not source]
        if any(each.target in self.written for constant in constants for each in above(constant)):
            return None
        if not all(_alike_in_channels(link, source, rank, known.axis, self.evaluator) for link, source in links):
            return None
        return Chain(here, known.bound, known.axis, tuple(links), tuple(moves))


def _own_writes(before: Mapping[fx.Node, fx.Node | None]) -> bool:
    """Whether the last writes into what a chain reads, given from its end on, are links nearer to its beginning."""
    path = list(before)
    return all(write is None or write in path[place:] for place, write in enumerate(before.values()))


def _changed(node: fx.Node, graph: Graph) -> fx.Node | None:
    """The value that a call changes entry by entry."""
    source = _only_input(node)
    if source is None or facts(source).shape != facts(node).shape or facts(node).dtype != torch.float32:
        return None
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        always_training = modes_of(graph.module).flags.get(False, {}).get(str(node.target), False)
        known = type(module) in (*_NORMS, *_RISING_MODULES, nn.LeakyReLU, nn.PReLU)
        return source if known and not always_training and not _by_the_batch(module) else None
    name = _name(node)
    if name in _ARITHMETIC:
        return source if len(node.args) == (1 if name == "neg" else 2) and not node.kwargs else None
    random = name == "dropout" and _training(node)
    return source if name and not random and node.args[0] is source and "out" not in node.kwargs else None


def _training(dropout: fx.Node) -> bool:
    """Whether a call of `dropout(input, p=0.5, training=True)` drops anything."""
    given = {"training": True} | dict(zip(("input", "p", "training"), dropout.args, strict=False)) | dropout.kwargs
    return bool(given["training"])


def _only_input(node: fx.Node) -> fx.Node | None:
    """The one value among the arguments that is no constant."""
    moving = [source for source in node.all_input_nodes if not _is_constant(source)]
    return moving[0] if len(moving) == 1 else None


def _is_constant(node: fx.Node) -> bool:
    """Whether a value is made of parameters and buffers, without a module."""
    made = above(node)
    known = all(each.op == "get_attr" or called(each) in _OF_CONSTANTS or rearranged(each) is not None for each in made)
    return known and any(each.op == "get_attr" for each in made)


def _name(node: fx.Node) -> str:
    if node.op == "call_method":
        name = called(node).removesuffix("_")
        return name if name in _ARITHMETIC | _RISING | _OTHERS else ""
    return _FUNCTIONS.get(node.target, "") if node.op == "call_function" else ""


def _by_the_batch(module: nn.Module) -> bool:
    return isinstance(module, _NORMS) and module.running_mean is None


def _rises(node: fx.Node, graph: Graph) -> bool:
    if node.op == "call_module":
        return isinstance(graph.module.get_submodule(str(node.target)), _RISING_MODULES)
    return _name(node) in _RISING and len(node.all_input_nodes) == 1


def _moved(node: fx.Node, graph: Graph) -> fx.Node | None:
    """The tensor whose entries a call selects and rearranges, in a tensor of their own or as a view."""
    pooled = node.args[0] if max_pool_of(node, graph) is not None else rearranged(node)
    known = isinstance(pooled, fx.Node) and None not in (facts(node).shape, facts(pooled).shape)
    return pooled if known and facts(node).dtype == torch.float32 else None  # type: ignore[return-value]


def _alike_in_channels(node: fx.Node, source: fx.Node, rank: int, axis: int, evaluator: Evaluator) -> bool:
    """Whether the constants of a call differ between channels alone."""
    constants = [evaluator.value(other) for other in node.all_input_nodes if other is not source]
    if node.op == "call_module":
        module = evaluator.fetch_attr(str(node.target))
        constants = [module.weight] if isinstance(module, nn.PReLU) else constants
        if isinstance(module, _NORMS):
            return rank + axis == 1
    if node.op == "call_module" or _name(node) == "prelu":
        return rank + axis == 1 or all(constant.numel() == 1 for constant in constants)
    return all(isinstance(constant, Tensor) and _along(constant, rank, axis) for constant in constants)


def _along(constant: Tensor, rank: int, axis: int) -> bool:
    """Whether a constant, broadcast over a tensor of some rank, varies along one of its axes alone."""
    places = range(-constant.dim(), 0)
    return constant.dim() <= rank and all(constant.shape[at] == 1 or at == axis for at in places)


def unseen(node: fx.Node, graph: Graph, but_for: Sequence[Any] = ()) -> bool:
    """Whether nobody would miss a call that nobody reads: what it writes into, if anything, is not read elsewhere.

    Readers that call one of `but_for` do not count.
    """
    target = written(node, graph)
    while target is not None:
        readers = [user for user in target.users if user.target not in but_for]
        if readers != [node]:
            return False
        node, target = target, written(target, graph) or handed_on(target, graph)
    return True

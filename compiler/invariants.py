"""What passes require of a graph, and ensure: captured, masked, settled, binary, packed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from frostline.compiler.bits import unpack
from frostline.compiler.graph import Graph, facts
from frostline.compiler.masks import Mask, binarize
from frostline.compiler.operations import operation_of
from frostline.compiler.rewriting import Violation
from frostline.schedules import SIGNS, Levels


def mask_nodes(graph: Graph) -> Iterator[tuple[fx.Node, Mask]]:
    """Every mask in the graph, with the node that applies it."""
    for node in graph.nodes:
        if node.op == "call_module":
            module = graph.module.get_submodule(str(node.target))
            if isinstance(module, Mask):
                yield node, module


def captured(graph: Graph) -> Iterator[Violation]:
    """There is no mask and no binary value in it yet."""
    for node, _ in mask_nodes(graph):
        yield Violation(f"{facts(node).name} is masked already", facts(node).where)


def masked(graph: Graph) -> Iterator[Violation]:
    """There is at least one mask, and every mask sits on an operand of an operation."""
    found = list(mask_nodes(graph))
    if not found:
        yield Violation("there is no mask in it", remedy="run InsertMasks first")
    for node, _ in found:
        if not node.users or not all(operation_of(user) for user in node.users):
            yield Violation(f"the mask of {facts(node).name} is not on an operand", facts(node).where)


def settled(graph: Graph) -> Iterator[Violation]:
    """Every entry of every mask is frozen."""
    for node, mask in mask_nodes(graph):
        frozen, entries = int(mask.mask.sum()), mask.mask.numel()
        if frozen < entries:
            what = f"{facts(node).name}: {frozen:,} of {entries:,} entries are binary"
            yield Violation(what, facts(node).where, "advance() to the end of the plan first")


def binary(graph: Graph) -> Iterator[Violation]:
    """No mask is left."""
    for node, _ in mask_nodes(graph):
        yield Violation(f"{facts(node).name} is still masked", facts(node).where)


def integer(graph: Graph) -> Iterator[Violation]:
    """Operations of two binary operands add no bias themselves, so that their outputs are integers."""
    for node in graph.nodes:
        operation = operation_of(node)
        if operation is not None:
            arguments = operation.bind(node)
            if is_binary(arguments["input"]) and is_binary(arguments["weight"]) and arguments["bias"] is not None:
                yield Violation(f"{facts(node).name} adds a bias to its integers", facts(node).where)


def packed(graph: Graph) -> Iterator[Violation]:
    """No latent weight is left behind a binarize: each is bits."""
    for node in graph.nodes:
        if is_binarize(node) and isinstance(source := node.args[0], fx.Node) and source.op == "get_attr":
            yield Violation(f"{facts(node).name} is not packed", facts(node).where)


def is_binarize(node: object) -> bool:
    """Whether a node makes something two-valued."""
    return isinstance(node, fx.Node) and node.target is binarize


def is_unpack(node: object) -> bool:
    """Whether a node is a packed weight."""
    return isinstance(node, fx.Node) and node.target is unpack


def is_binary(node: object) -> bool:
    """Whether the value of a node is one of two levels everywhere."""
    return is_binarize(node) or is_unpack(node)


def levels_of(node: fx.Node) -> Levels:
    """The two levels of a binary node: a weight's are -1 and 1."""
    return node.kwargs.get("levels", SIGNS) if is_binarize(node) else SIGNS  # type: ignore[return-value]

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import fx

from frostline.compiler.bits import pack, unpack
from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, is_binarize, packed
from frostline.compiler.rewriting import Invariant, Pass


@dataclass(frozen=True)
class PackWeights(Pass):
    """conv(x, binarize(w)) -> conv(x, unpack(w_bits)): one bit a weight, and the latent weight is gone."""

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (packed,)

    def rewrite(self, graph: Graph) -> None:
        parameters = dict(graph.module.named_parameters(remove_duplicate=False))
        for node in list(graph.nodes):
            if is_binarize(node) and isinstance(source := node.args[0], fx.Node) and str(source.target) in parameters:
                _pack(graph, node, source)


def _pack(graph: Graph, sign: fx.Node, source: fx.Node) -> None:
    path = str(source.target)
    weight = graph.module.get_parameter(path)
    bits = pack(weight.detach())
    parent, _, name = path.rpartition(".")
    graph.module.get_submodule(parent).register_buffer(f"{name}_bits", bits)
    nodes = graph.module.graph
    with nodes.inserting_before(sign):
        held = nodes.get_attr(f"{path}_bits")
        unpacked = nodes.call_function(unpack, (held, weight.shape[1]))
    set_facts(held, replace(facts(source), shape=tuple(bits.shape), dtype=torch.uint8))
    set_facts(unpacked, facts(sign))
    sign.replace_all_uses_with(unpacked)
    nodes.erase_node(sign)
    if not source.users:
        nodes.erase_node(source)
        _forget(graph, weight)


def _forget(graph: Graph, weight: torch.nn.Parameter) -> None:
    """Drop a parameter under all its names, unless a module that runs as a whole, such as an Embedding, needs it."""
    called = [graph.module.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
    if any(parameter is weight for module in called for parameter in module.parameters()):
        return
    for module in graph.module.modules():
        for name in [name for name, parameter in module._parameters.items() if parameter is weight]:
            delattr(module, name)

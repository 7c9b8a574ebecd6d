from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from frostline.compiler.channelwise import Chains
from frostline.compiler.graph import Graph, facts
from frostline.compiler.invariants import binary, integer
from frostline.compiler.rewriting import Invariant, Pass
from frostline.passes.writing import Writer


@dataclass(frozen=True)
class SplitBatchNorm(Pass):
    """batch_norm(dot) -> dot * scale + shift, with one constant each a channel.

    `scale = gamma / sqrt(var + eps)` and `shift = beta - mean * scale`, in float32. A multiplication and an addition
    are rounded the same everywhere; BatchNorm is not. Where no integer lies before it, it stays, because runtimes fold
    it into the float convolution.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary, integer)
    ensures: ClassVar[tuple[Invariant, ...]] = (binary, integer)

    def rewrite(self, graph: Graph) -> None:
        chains = Chains.of(graph)
        norms = [(node, module) for node in graph.nodes if isinstance(module := _module(node, graph), _BatchNorm)]
        behind = [(node, norm) for node, norm in norms if chains.ending_at(node, node) is not None]
        for node, norm in behind:
            _split(graph, node, norm)


def _module(node: fx.Node, graph: Graph) -> object:
    return graph.module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _split(graph: Graph, node: fx.Node, norm: _BatchNorm) -> None:
    write, source = Writer(graph, node), node.args[0]
    scale, shift = _constants(norm)
    shape = (-1, *(1 for _ in (facts(node).shape or ())[2:]))
    product = write(torch.mul, source, write.held(f"{node.target}_scale", scale.reshape(shape)))
    write.replace(write(torch.add, product, write.held(f"{node.target}_shift", shift.reshape(shape))))


def _constants(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift, one each a channel, on the module's device."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, deviation = norm.running_mean, torch.sqrt(norm.running_var + norm.eps)
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach()
    scale = gamma / deviation
    return scale, beta - mean * scale

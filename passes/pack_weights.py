from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, fx

from frostline.compiler.bits import is_narrow, pack, pack_row, unpack, unpack_row
from frostline.compiler.evaluating import Evaluator
from frostline.compiler.graph import Graph, facts, set_facts
from frostline.compiler.invariants import binary, is_binarize, packed
from frostline.compiler.products import Product, above, products_of
from frostline.compiler.rearrangements import chain_to, is_constant
from frostline.compiler.rewriting import Invariant, Pass
from frostline.compiler.structure import structures
from frostline.passes.writing import forget, hold


@dataclass(frozen=True)
class PackWeights(Pass):
    """conv(x, t(binarize(w))) -> conv(x, unpack(w_bits)): one bit a weight, and the latent weight is gone.

    Depthwise convolutions, and others with few channels in a group, are unpacked from one row of bits.

    What is computed from parameters alone, views and normalisations, is computed here, as in eval mode.
    """

    requires: ClassVar[tuple[Invariant, ...]] = (binary,)
    ensures: ClassVar[tuple[Invariant, ...]] = (packed,)

    def rewrite(self, graph: Graph) -> None:
        packing = _Packing(graph, structures(graph), Evaluator(graph.module))
        latent: set[fx.Node] = set()
        for product in products_of(graph):
            if is_binarize(chain_to(product.weight)[0]):
                latent.update(above(product.weight))
                _pack(product, packing)
        forget(graph, latent)


@dataclass(frozen=True)
class _Packing:
    """What is packed already: weights of equal structure whose views are equal share their bits."""

    graph: Graph
    structures: dict[fx.Node, int]
    evaluator: Evaluator
    done: dict[tuple[int, tuple[int, ...], bytes], fx.Node] = field(default_factory=dict)


def _pack(product: Product, packing: _Packing) -> None:
    """Replace the operand by bits, as far as it is the same for every input of the model."""
    chain = chain_to(product.weight)
    moving = next((place for place, node in enumerate(chain) if place and not is_constant(node)), len(chain))
    last = next(place for place in reversed(range(moving)) if facts(chain[place]).shape is not None)
    signs = packing.evaluator.value(chain[last])
    narrow = is_narrow(signs.shape, product.groups)
    bits = pack_row(signs) if narrow else pack(signs)
    key = packing.structures[chain[0]], tuple(signs.shape), bits.cpu().numpy().tobytes()
    if key not in packing.done:
        packing.done[key] = _unpacked(chain[0], signs, bits, packing.graph)
    if last + 1 < len(chain):
        chain[last + 1].replace_input_with(chain[last], packing.done[key])
    else:
        product.rebind("weight", packing.done[key])


def _unpacked(sign: fx.Node, signs: Tensor, bits: Tensor, graph: Graph) -> fx.Node:
    """The bits of a weight, held under the site's name, and unpacked where the signs were taken."""
    nodes = graph.module.graph
    path = hold(graph.module, f"{facts(sign).name}_bits", bits)
    with nodes.inserting_before(sign):
        held = nodes.get_attr(path)
        if bits.dim() < signs.dim():
            unpacked = nodes.call_function(unpack_row, (held, [*signs.shape]))
        else:
            unpacked = nodes.call_function(unpack, (held, signs.shape[1]))
    set_facts(held, replace(facts(sign), shape=tuple(bits.shape), dtype=torch.uint8))
    return set_facts(unpacked, replace(facts(sign), shape=tuple(signs.shape)))

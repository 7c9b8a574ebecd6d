"""What a binary graph computes, by site and by operation: the reference that a written file is held against."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from frostline.compiler.graph import Example, Graph, facts
from frostline.compiler.invariants import (
    is_binarize,
    is_binarize_at,
    is_binary,
    is_unpack,
    is_widen,
    levels_of,
    on_bits,
)
from frostline.compiler.masks import threshold
from frostline.compiler.products import Product, attribute, products_of
from frostline.compiler.rearrangements import root_of
from frostline.compiler.tensors import map_tensors, tensors_in
from frostline.errors import Offence, UsageError, first_line
from frostline.schedules import Levels

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """What a graph computes for some inputs, on the CPU.

    `inputs` is what each site or operation reads that is not a site's binary activation, `activations` those, `levels`
    the two values of each, `thresholds` the smallest values that become `high`, broadcast over `inputs`, `by_integers`
    the sites where these are integers, `products` the outputs of operations on packed weights, `bits` the packed
    weights by site (views of one are packed apart), `rounded` the bytes and scales of weights of 8 bits, `binary` the
    names of operations of two binary operands, and `as_float` those whose weight is unpacked first.
    """

    arguments: list[Array]
    inputs: dict[str, Array]
    activations: dict[str, Array]
    levels: dict[str, Levels]
    thresholds: dict[str, Array]
    high: dict[str, Array]
    by_integers: set[str]
    products: dict[str, Array]
    bits: dict[str, list[Array]]
    rounded: dict[str, tuple[Array, Array]]
    binary: set[str]
    as_float: tuple[str, ...]
    outputs: list[Array]


def twin_of(graph: Graph) -> Graph:
    """The graph on the CPU and in eval mode, with tensors of its own."""
    return replace(graph, module=copy.deepcopy(graph.module).cpu().eval())


def reference_of(graph: Graph, inputs: Example) -> Reference:
    """Run a binary graph, as `twin_of` gives it, and keep what its sites and operations compute.

    Raises UsageError when the inputs are not such as the graph takes.
    """
    packed = [product for product in products_of(graph) if is_unpack(root_of(product.weight))]
    products = [product for product in packed if on_bits(product)]
    as_float = tuple(str(facts(product.node).name) for product in packed if not on_bits(product))
    try:
        given = map_tensors(list(inputs.bound(graph.module).values()), lambda tensor: tensor.cpu())
        arguments = [tensor.clone() for tensor in tensors_in(given)]
        recorder = _Recorder(graph, products)
        with torch.no_grad():
            result = recorder.run(*given)
    except (TypeError, RuntimeError, ValueError, IndexError) as error:
        remedy = "inputs are a tuple of the model's positional arguments, batch first"
        reason = Offence(first_line(error), remedy=remedy)
        raise UsageError("the model does not run on these inputs", [reason]) from error
    read, made = recorder.read, recorder.made
    found = Reference(_arrays(arguments), {}, {}, {}, {}, {}, set(), {}, {}, {}, set(), as_float, _arrays(result))
    for node in graph.nodes:
        name = str(facts(node).name)
        if is_binarize(node):
            found.inputs[name], found.activations[name] = read[node, node.args[0]], made[node]
            levels = found.levels[name] = levels_of(node)
            at, high = np.array(threshold(levels), np.float32), np.array(max(levels), np.float32)
            if is_binarize_at(node):
                found.by_integers.add(name)
                at, high = (read[node, each] for each in node.args[1:])
            found.thresholds[name], found.high[name] = at, high
        elif is_unpack(node):
            found.bits.setdefault(name, []).append(read[node, node.args[0]])
        elif is_widen(node):
            bytes, scale = (_array(attribute(graph, held)) for held in node.all_input_nodes)
            found.rounded[name] = bytes, scale
    for product in products:
        name = str(facts(product.node).name)
        found.products[name] = made[product.node]
        if is_binary(product.activation):
            found.binary.add(name)
        if not is_binarize(product.activation):
            found.inputs[name] = read[product.node, product.activation]
    return found


def samples(inputs: Example, count: int) -> Iterator[Example]:
    """The inputs in parts of at most `count` samples."""
    own = inputs.batch_size()
    if own is None or own <= count:
        yield inputs
        return
    for start in range(0, own, count):
        yield inputs.picked(range(start, min(start + count, own)))


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps copies of what sites and operations read and compute."""

    def __init__(self, graph: Graph, products: Sequence[Product]) -> None:
        super().__init__(graph.module)
        self.read: dict[tuple[fx.Node, Any], Array] = {}
        """By the reader and what it reads: a tensor may be changed in place before it is read, and afterwards."""
        self.made: dict[fx.Node, Array] = {}
        self._ours = {node for node in graph.nodes if is_binarize(node) or is_unpack(node)}
        self._ours |= {product.node for product in products}

    def run_node(self, n: fx.Node) -> Any:
        if n not in self._ours:
            return super().run_node(n)
        for source in n.all_input_nodes:
            self.read[n, source] = _array(self.env[source])
        value = super().run_node(n)
        self.made[n] = _array(value)
        return value


def _array(value: torch.Tensor) -> Array:
    """A copy; numpy has no bfloat16."""
    plain = value.detach().float() if value.dtype == torch.bfloat16 else value.detach().clone()
    array: Array = plain.numpy()
    return array


def _arrays(values: Any) -> list[Array]:
    return [leaf.detach().numpy() for leaf in tensors_in(values)]

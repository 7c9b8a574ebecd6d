"""What a binary graph computes, by site and by operation: the reference that a written file is held against."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from frostline.compiler.graph import Example, Graph, facts
from frostline.compiler.invariants import is_binarize, is_binary, is_unpack, levels_of
from frostline.compiler.operations import operation_of
from frostline.errors import Offence, UsageError, first_line
from frostline.schedules import Levels

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """What a graph computes for some inputs, on the CPU.

    `inputs` is what each site or float-input operation reads, `activations` the binary activations, `levels` the two
    values of each, `products` the outputs of operations with packed weights, `bits` those weights, and `binary` the
    names of operations of two binary operands.
    """

    arguments: list[Array]
    inputs: dict[str, Array]
    activations: dict[str, Array]
    levels: dict[str, Levels]
    products: dict[str, Array]
    bits: dict[str, Array]
    binary: set[str]
    outputs: list[Array]


def twin_of(graph: Graph) -> fx.GraphModule:
    """The graph's module on the CPU and in eval mode, with tensors of its own."""
    return copy.deepcopy(graph.module).cpu().eval()


def reference_of(module: fx.GraphModule, inputs: Example) -> Reference:
    """Run a binary module, as `twin_of` gives it, and keep what its sites and operations compute.

    Raises UsageError when the inputs are not such as the module takes.
    """
    try:
        given = pytree.tree_map_only(Tensor, lambda t: t.cpu(), list(inputs.bound(module).values()))
        arguments = pytree.tree_map_only(Tensor, Tensor.clone, given)
        recorder = _Recorder(module)
        with torch.no_grad():
            result = recorder.run(*given)
    except (TypeError, RuntimeError, ValueError, IndexError) as error:
        remedy = "inputs are a tuple of the model's positional arguments, batch first"
        reason = Offence(first_line(error), remedy=remedy)
        raise UsageError("the model does not run on these inputs", [reason]) from error
    values = recorder.values
    found = Reference(_arrays(arguments), {}, {}, {}, {}, {}, set(), _arrays(result))
    for node in module.graph.nodes:
        name, operation = str(facts(node).name), operation_of(node)
        if is_binarize(node):
            found.inputs[name], found.activations[name] = values[node.args[0]], values[node]
            found.levels[name] = levels_of(node)
        elif is_unpack(node):
            found.bits[name] = values[node.args[0]]
        elif operation is not None and is_unpack(operation.bind(node)["weight"]):
            source = operation.bind(node)["input"]
            found.products[name] = values[node]
            if is_binary(source):
                found.binary.add(name)
            else:
                found.inputs[name] = values[source]
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

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[Any, Array] = {}
        ours = [n for n in module.graph.nodes if is_binary(n) or operation_of(n) is not None]
        self._wanted = {*ours, *(source for node in ours for source in node.all_input_nodes)}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._wanted and isinstance(value, Tensor):
            self.values[n] = value.detach().clone().numpy()  # a later operation may change it in place
        return value


def _arrays(values: Any) -> list[Array]:
    return [leaf.detach().numpy() for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]

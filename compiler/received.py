"""What a model file may ask for: it was written by others, and is looked at before anything of it is opened or run.

ONNX Runtime refuses most of this as well, in some of its versions. A file that frostline wrote holds all that it needs;
one that others wrote may keep its tensors beside it, but nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import onnx
from onnx import TensorProto, helper, numpy_helper

from frostline.compiler.bits import words
from frostline.errors import Offence

DOMAIN = "frostline"
_MOST_NODES = 100_000
"""The nodes of a model at most, once its functions stand where they are called."""

_INTS = onnx.AttributeProto.INTS
_WINDOW = {"kernel_shape": _INTS, "strides": _INTS, "pads": _INTS, "dilations": _INTS, "group": onnx.AttributeProto.INT}
_OPERANDS = ("Binary", "ZeroOne", "BinaryWeight")
_CONV: dict[str, Any] = {"inputs": _INTS} | _WINDOW
_KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    **{kind: (1, {}) for kind in ("Binarize", "BinarizeZeroOne")},
    **{kind: (3, {}) for kind in ("BinarizeAt", "BinarizeZeroOneAt")},
    **{f"{operand}Linear{end}": (2, {"inputs": _INTS}) for operand in _OPERANDS for end in ("", "AsFloat")},
    **{f"{operand}Conv{end}": (2, _CONV) for operand in _OPERANDS for end in ("", "AsFloat")},
    **{
        f"{operand}Conv{site}": (4, _CONV | {"operation": onnx.AttributeProto.STRING})
        for operand in ("Binary", "ZeroOne")
        for site in ("BinarizeAt", "BinarizeZeroOneAt")
    },
    **{
        f"{operand}NarrowConv{end}": (2, {"inputs": _INTS, "shape": _INTS} | _WINDOW)
        for operand in _OPERANDS
        for end in ("", "AsFloat")
    },
    "Unpack": (1, {"inputs": _INTS, "shape": _INTS}),
}
"""The nodes that frostline writes: how many inputs each has, and which attributes beside `site`."""


def has_ours(model: onnx.ModelProto) -> bool:
    """Whether a model has a node of ours."""
    return any(node.domain == DOMAIN for node in model.graph.node)


def faults(model: onnx.ModelProto, folder: Path) -> Iterator[Offence]:
    """What a model does that none may: read files outside of its folder, grow beyond all bounds, or, where it has nodes
    of ours, keep tensors elsewhere or have such that are none. Raises an exception where it is damaged."""
    ours = has_ours(model)
    for tensor in _tensors(model):
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if ours and (places or tensor.data_location == TensorProto.EXTERNAL):
            yield Offence(f"tensor {tensor.name} is not in the file")
        elif not all((folder / place).resolve().is_relative_to(folder.resolve()) for place in places):
            yield Offence(f"tensor {tensor.name} is outside of the file's folder")
        elif ours:
            numpy_helper.to_array(tensor)  # has as many values as it says
    yield from _growing(model)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain == DOMAIN and (what := _fault(node, held)):
            yield Offence(f"{node.op_type} {node.name} {what}")


def _fault(node: onnx.NodeProto, held: dict[str, TensorProto]) -> str | None:
    """Why a node is none of ours; None where it is one."""
    if node.op_type not in _KINDS:
        return "is no operator of frostline"
    count, wanted = _KINDS[node.op_type]
    found = {each.name: each for each in node.attribute}
    for name, kind in wanted.items():
        if name not in found or found[name].type != kind:
            return f"has no proper {name}"
    for name in ("site", "operation"):
        if name in found and not _is_word(found[name]):
            return f"has no proper {name}"
    if len(node.input) != count or not all(node.input) or len(node.output) != 1 or not node.output[0]:
        return "has not the inputs and outputs of its kind"
    given = {name: helper.get_attribute_value(found[name]) for name in wanted}
    if not wanted:
        return None
    bits, inputs = held.get(node.input[min(1, count - 1)]), given["inputs"]
    if bits is None or bits.data_type != TensorProto.UINT8 or len(bits.dims) < 2:
        return "has no bits in the file"
    shape = [*given.get("shape", [])]
    kernel = [*given.get("kernel_shape", shape[2:])]
    if len(inputs) != 1 or inputs[0] < 1 or bits.dims[0] < 1 or not _hold(bits, inputs[0], kernel, shape, node.op_type):
        return "has bits of another shape than its attributes say"
    if any(not _is_one_each(held.get(name), bits) for name in node.input[2:]):
        return "has no thresholds of its channels in the file"
    if "group" in given:
        axes, outputs = len(kernel), shape[0] if shape else bits.dims[0]
        sizes = [len(given[name]) for name in ("strides", "dilations", "pads")]
        if sizes != [axes, axes, 2 * axes] or given["group"] < 1 or outputs % given["group"]:
            return "has a window that cannot be"
    return None


def _hold(bits: TensorProto, inputs: int, kernel: list[int], shape: list[int], kind: str) -> bool:
    """Whether bits hold so many inputs at each tap of a kernel; or all of a shape, as one row."""
    sizes = [*bits.dims]
    if sizes[1:] == [*kernel, words(inputs) * 4] and "Narrow" not in kind:
        return True
    row = len(shape) > 1 and min(shape) > 0 and shape[2:] == kernel and math.prod(shape) == inputs
    return row and sizes == [1, words(inputs) * 4]


def _is_one_each(tensor: TensorProto | None, bits: TensorProto) -> bool:
    """Whether floats are one for each output of a product."""
    return tensor is not None and tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) == bits.dims[0]


def _is_word(attribute: onnx.AttributeProto) -> bool:
    try:
        return attribute.type == onnx.AttributeProto.STRING and attribute.s.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor inside of a message of protobuf, wherever it is. Raises ValueError for names that are not UTF-8."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:  # protobuf gives bytes for what is not UTF-8
            if isinstance(value, bytes) or (
                not isinstance(value, str) and any(isinstance(each, bytes) for each in value)
            ):
                raise ValueError(f"{field.full_name} holds what is not UTF-8")
        elif field.message_type is not None:
            for inner in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(inner)


def _growing(model: onnx.ModelProto) -> Iterator[Offence]:
    """The offence of functions that call themselves, or each other so often that the model has no end of nodes."""
    called: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for each in model.functions:
        called.setdefault((each.domain, each.name), []).extend(_calls(each.node))
    graph = nx.DiGraph((name, call) for name, calls in called.items() for call in calls if call in called)
    if not nx.is_directed_acyclic_graph(graph):
        yield Offence("its functions call themselves")
        return
    sizes: dict[tuple[str, str], int] = {name: len(calls) for name, calls in called.items()}
    for name in reversed([*nx.topological_sort(graph)]):
        sizes[name] = min(sum(sizes.get(call, 1) for call in called[name]), _MOST_NODES + 1)
    if sum(sizes.get(call, 1) for call in _calls(model.graph.node)) > _MOST_NODES:
        yield Offence(f"with its functions written out it has more than {_MOST_NODES:,} nodes")


def _calls(nodes: Any) -> Iterator[tuple[str, str]]:
    """The operators of nodes, with those inside of their branches and bodies."""
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _calls(graph.node)

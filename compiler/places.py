"""The nodes of a file by their places, and what makes and what reads each value, to put others where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from frostline.compiler.exported import DOMAIN, attributes, reads


@dataclass
class Places:
    """One model's nodes, by place; what is put together elsewhere becomes None."""

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto | None] = field(init=False)
    makers: dict[str, int] = field(init=False)
    readers: dict[str, list[int]] = field(init=False)
    outputs: set[str] = field(init=False)
    held: dict[str, onnx.TensorProto] = field(init=False)
    shapes: dict[str, list[int | str] | None] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.nodes = list(graph.node)
        self.makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
        self.readers = {}
        for place, node in enumerate(graph.node):
            for name in reads(node):
                self.readers.setdefault(name, []).append(place)
        self.outputs = {value.name for value in graph.output}
        given = {value.name for value in graph.input}
        self.held = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self.shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value, where it is one whose meaning is known."""
        node = self.nodes[self.makers[name]] if name in self.makers else None
        return node if node is not None and node.domain in ("", DOMAIN) else None

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a value, where it is one whose meaning is known."""
        places = self.readers.get(name, [])
        node = self.nodes[places[0]] if len(places) == 1 and name not in self.outputs else None
        return node if node is not None and node.domain in ("", DOMAIN) else None

    def number(self, name: str) -> float | None:
        """The number that a name stands for, where it is a constant of type float."""
        while (maker := self.maker(name)) is not None and (
            maker.op_type == "CastLike"
            or (maker.op_type == "Cast" and attributes(maker)["to"] == onnx.TensorProto.FLOAT)
        ):
            name = maker.input[0]
        if maker is not None and maker.op_type == "Constant":
            value = next(iter(attributes(maker).values()))
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)
        elif name in self.held:
            array = numpy_helper.to_array(self.held[name])
        else:
            return None
        return float(array) if array.size == 1 and array.dtype.kind == "f" else None

    def hold(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Give the model a tensor; returns its name."""
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _shape(value: onnx.ValueInfoProto) -> list[int | str] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    return None if any(d == "" for d in dims) else dims

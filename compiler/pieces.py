"""A written file, cut at its binary operations, so that each piece of it can be given the graph's own values."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper, numpy_helper

from frostline.compiler.exported import compares, copied, is_site, operation_of, operations
from frostline.compiler.reference import Array, Reference


def pieces_of(model: onnx.ModelProto, thresholds: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    """The file cut at its binary operations: each takes the graph's values, and shows its own.

    `given:NAME` feeds an operation, `NAME`'s consumers read `product:NAME` or, where levels are given, `binary:NAME`,
    and both sides of each cut are outputs. `thresholds` are others for the sites of operations that compare their own
    integers. They are constants, as those of the file are: ONNX Runtime 1.19 ignores a computed bias of `QLinearConv`.
    """
    cut = copied(model)
    graph = cut.graph
    renamed = {node.output[0]: f"{side(node)}:{site}" for site, node in operations(model)}
    feeds: dict[str, None] = {}
    shown: dict[str, None] = {}
    for site, node in operations(cut):
        source = renamed.get(node.input[0], node.input[0])
        if not source.startswith("binary:"):
            if not source.startswith("product:"):  # else there is no float part between two products
                shown[source] = None
            source = f"given:{operation_of(node)}"
        node.input[0], node.output[0] = source, f"own:{site}"
        feeds[source] = shown[node.output[0]] = None
        if compares(node) and thresholds and site in thresholds:
            node.input[2] = f"thresholds:{site}"
            graph.initializer.append(numpy_helper.from_array(thresholds[site], node.input[2]))
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
                feeds[renamed[name]] = None
    for end in [value.name for value in graph.output if value.name in renamed]:
        graph.node.append(helper.make_node("Identity", [renamed[end]], [end]))
        feeds[renamed[end]] = None
    known = {value.name for value in (*graph.input, *graph.output)} | feeds.keys()
    graph.input.extend(_untyped(name) for name in feeds)
    graph.output.extend(_untyped(name) for name in shown if name not in known)
    del graph.value_info[:]
    return cut


def side(node: onnx.NodeProto) -> str:
    """What one of our operations gives: a binary activation, or products."""
    return "binary" if is_site(node) or compares(node) else "product"


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole file, with the values of every site and the products of every operation among its outputs."""
    whole = copied(model)
    ends = {value.name for value in whole.graph.output}
    ours = [node.output[0] for _, node in operations(whole)]
    whole.graph.output.extend(_untyped(name) for name in ours if name not in ends)
    return whole


def _untyped(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def piece_inputs(model: onnx.ModelProto, reference: Reference) -> dict[str, Array]:
    """What the pieces are given: the graph's values."""
    feeds = by_input(model, reference.arguments)
    feeds |= {f"given:{name}": value for name, value in reference.inputs.items()}
    feeds |= {f"binary:{name}": value for name, value in reference.activations.items()}
    return feeds | {f"product:{name}": value for name, value in reference.products.items()}


def by_input(model: onnx.ModelProto, arguments: list[Array]) -> dict[str, Array]:
    """The arguments of a model by the names of its inputs."""
    return dict(zip([value.name for value in model.graph.input], arguments, strict=False))

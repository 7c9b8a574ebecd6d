"""What an exported file holds: what is binary in it, what is float and why, and how many bytes everything takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from frostline.compiler.exported import DOMAIN, attributes, is_site, read_model, readers


def contents(path: str | Path) -> str:
    """The contents of an exported file as a table of text, in the order in which it computes."""
    model = read_model(path)
    sizes = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer}
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    read: dict[str, list[str]] = {}
    for name, node in readers(model).items():
        read.setdefault(node.output[0], []).append(name)
    in_bytes = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    table = Table("operation", "what", "input", "weights", "bytes", "why float", box=None, header_style="")
    told = 0
    for node in model.graph.node:
        own = read.get(node.output[0], [])
        size = sum(sizes[name] for name in own)
        if node.domain == DOMAIN:
            weights = _packed(node, shapes)
        else:
            matrices = [name for name in own if len([each for each in shapes[name] if each > 1]) > 1]
            weights = _product(shapes[matrices[0]]) if matrices else ""
            weights += ", 8 bits" * (not in_bytes.isdisjoint(matrices))
        if node.domain == DOMAIN or weights:
            told += size
            why = node.doc_string.removeprefix("float: ")
            table.add_row(node.name, node.op_type, _source(node), weights, f"{size:,}" if size else "", why)
    others = sum(sizes.values()) - told
    table.add_row("", "other tensors", "", "", f"{others:,}", "normalisations, biases, constants")
    table.add_row("", "graph, functions, certificate", "", "", f"{Path(path).stat().st_size - told - others:,}", "")
    binary = [node for node in model.graph.node if node.domain == DOMAIN and not is_site(node)]
    packed = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8}
    bits = sum(sizes[name] for node in binary for name in read.get(node.output[0], []) if name in packed)
    console = Console(width=140, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    head = f"{len(binary)} operations of one-bit weights, {bits:,} bytes; operators: {_counted(model)}"
    return "\n".join([head, "", *(line.rstrip() for line in captured.get().splitlines())])


def _packed(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> str:
    """The shape of a binary weight, before it was packed."""
    held = [shapes[value] for value in node.input if value in shapes]
    if is_site(node) or not held:
        return ""
    given = attributes(node)
    sizes = given.get("shape") or [held[0][0], given["inputs"][0], *given.get("kernel_shape", [])]
    return _product(sizes)


def _product(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def _source(node: onnx.NodeProto) -> str:
    """What one of our operations reads beside its weights."""
    if node.domain != DOMAIN:
        return "float"
    if is_site(node) or node.op_type == "Unpack":
        return ""
    return "float" if "Weight" in node.op_type else "binary"


def _counted(model: onnx.ModelProto) -> str:
    kinds = [node.op_type for node in model.graph.node if node.domain == DOMAIN]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))

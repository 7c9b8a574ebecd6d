"""What an exported file holds: its binary operations and weights, and how many bytes everything takes."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from frostline.compiler.exported import attributes, is_site, named, read_model


def contents(path: str | Path) -> str:
    """The contents of an exported file as a table of text."""
    model = read_model(path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    table = Table("operation", "what", "input", "weights", "bytes", box=None, header_style="")
    packed = 0
    for _, node in named(model):
        tensors = [numpy_helper.to_array(held[value]) for value in node.input if value in held]
        bits = None if is_site(node) or not tensors else tensors[0]
        given = attributes(node)
        size = bits.nbytes if bits is not None else 0
        packed += size
        weights = f"{bits.shape[0]} x {given['inputs'][0]}" if bits is not None else ""
        kernel = "".join(f" x {k}" for k in given.get("kernel_shape", given.get("shape", [])[2:]))
        alone = is_site(node) or node.op_type == "Unpack"
        source = "" if alone else "float" if "Weight" in node.op_type else "binary"
        table.add_row(node.name, node.op_type, source, weights + kernel, f"{size:,}" if size else "")
    floats = [tensor for tensor in held.values() if tensor.data_type == onnx.TensorProto.FLOAT]
    size = sum(4 * int(numpy_helper.to_array(tensor).size) for tensor in floats)
    table.add_row("", "float tensors", "", f"{len(floats)} tensors", f"{size:,}")
    table.add_row("", "graph, functions, certificate", "", "", f"{Path(path).stat().st_size - size - packed:,}")
    console = Console(width=120, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())

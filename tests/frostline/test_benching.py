from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import frostline as fl
from frostline.benching import Bench, Contestant, Node
from frostline.errors import FileError, UsageError


def test_a_file_is_timed_in_turns_with_itself_on_standard_operators(chain_file: Path) -> None:
    found = fl.bench(chain_file, seconds=0.1, batch=2)
    assert [one.name for one in found.contestants] == ["chain.onnx", "chain.onnx on standard operators"]
    assert [one.where for one in found.contestants] == ["frostline's kernels and CPU", "CPU"]
    assert len({len(one.seconds) for one in found.contestants}) == 1
    text = str(found)
    assert text.startswith("batch 2, 1 thread, ONNX Runtime ")
    assert re.search(r"limit: \d+% of the time makes binary products, \d+% of the \d+ G a second that", text)


def test_products_are_counted(chain_file: Path) -> None:
    found = {node.name: node for node in fl.bench(chain_file, seconds=0.1, batch=2).nodes}
    model = onnx.load(chain_file)
    convolutions = [node for node in model.graph.node if node.op_type == "BinaryConv"]
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    first = convolutions[0]
    (inputs,) = next(a.ints for a in first.attribute if a.name == "inputs")
    (stride, _) = next(a.ints for a in first.attribute if a.name == "strides")
    outputs = held[first.input[1]].dims[0]
    assert found[first.name].products == 2 * (8 // stride) ** 2 * outputs * inputs * 9
    assert all(found[node.name].products for node in convolutions)


def test_a_float_original_is_what_it_is_compared_with(chain_file: Path, tmp_path: Path) -> None:
    original = tmp_path / "float.onnx"
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Abs(x) }'
    onnx.save(onnx.parser.parse_model(text), original)
    found = fl.bench(chain_file, original, seconds=0.1)
    assert [one.name for one in found.contestants][-1] == "float.onnx"
    assert "float.onnx" in str(found)


def test_what_cannot_be_timed_is_refused(chain_file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file or directory"):
        fl.bench(tmp_path / "none.onnx")
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N, T] x) => (float[N, T] y) { y = Abs(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "free.onnx")
    with pytest.raises(UsageError, match="only the batch may be free"):
        fl.bench(tmp_path / "free.onnx")


def test_the_verdict_names_what_limits() -> None:
    ways = (Contestant("a.onnx", "CPU", (0.001, 0.002)), Contestant("b.onnx", "CPU", (0.004,)))
    nodes = (Node("conv", "PackedConv", 0.0006, 600_000), Node("stem", "Conv", 0.0004, 0))
    found = Bench(ways, nodes, 1, 2, 1e9, "avx2", "ONNX Runtime 1.32.0")
    assert found.verdict() == (
        "limit: 60% of the time makes binary products, 50% of the 2 G a second that avx2 could; "
        "40% does not, and the slowest of the others is Conv stem"
    )
    assert "as fast as float32 ones and no faster" in replace(found, limit=0.0).verdict()

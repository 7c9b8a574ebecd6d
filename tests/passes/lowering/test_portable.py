from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.errors import LoweringError, PassError
from tests.models.small import chain, spec


def frozen(model: nn.Module, *shape: int, **edits: object) -> fl.Graph:
    program = fl.compile(model, spec(**edits), (torch.randn(shape),), total_steps=40)
    program.driver.resume(40)
    return program.freeze()


@pytest.fixture(scope="module")
def lowered() -> onnx.ModelProto:
    torch.manual_seed(0)
    return fl.lower(frozen(chain(layers=2), 2, 3, 8, 8))


def test_the_text_of_a_lowered_graph(lowered: onnx.ModelProto, golden: Callable[[str, str], None]) -> None:
    lines = []
    for node in lowered.graph.node:
        ours = f"{node.domain}." if node.domain else ""
        lines.append(f"{', '.join(node.output)} = {ours}{node.op_type}({', '.join(node.input)})")
    golden("lowered-chain", "\n".join(lines))


def test_it_is_what_any_runtime_takes(lowered: onnx.ModelProto) -> None:
    onnx.checker.check_model(lowered, full_check=True)
    assert lowered.ir_version == 10
    assert {entry.domain: entry.version for entry in lowered.opset_import} == {"": 21, "frostline": 1}
    assert [function.name for function in lowered.functions] == ["Binarize", "BinarizeAt", "BinaryConv"]
    assert [size.dim_param for size in lowered.graph.input[0].type.tensor_type.shape.dim] == ["batch", "", "", ""]
    assert lowered.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_are_bits_and_latent_weights_are_not_in_it(lowered: onnx.ModelProto) -> None:
    held = {tensor.name: tensor for tensor in lowered.graph.initializer}
    assert held["3.weight_bits"].data_type == onnx.TensorProto.UINT8
    assert list(held["3.weight_bits"].dims) == [6, 3, 3, 4]
    assert "3.weight" not in held


def test_nodes_have_the_user_s_names(lowered: onnx.ModelProto) -> None:
    names = [node.name for node in lowered.graph.node if node.domain == "frostline"]
    assert names == ["3.activation", "3", "6.activation", "6"]


def test_float_nodes_have_the_names_of_their_modules_or_of_their_values(lowered: onnx.ModelProto) -> None:
    names = {node.name: node.op_type for node in lowered.graph.node}
    assert len(names) == len(lowered.graph.node)
    assert [names[name] for name in ("0", "7_scale", "7_shift", "hardtanh")] == ["Conv", "Mul", "Add", "Clip"]


def test_a_module_may_have_the_name_of_a_value() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.tanh, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.tanh(self.first(x).tanh()).tanh())

    names = [node.name for node in fl.lower(frozen(Named(), 2, 6)).graph.node]
    assert {"first", "tanh", "last"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (lambda x: {"mask": x, "more": [x * 2, {"last": x.sum(1)}]}, ["mask", "more.0", "more.1.last"]),
        (lambda x: {"input": x, "score": x * 2}, None),  # the name of an input
        (lambda x: (x, x * 2), None),
    ],
)
def test_outputs_have_the_names_that_the_forward_gives_them(
    result: Callable[[torch.Tensor], object], names: list[str] | None
) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*[nn.Linear(6, 6) for _ in range(3)])

        def forward(self, input: torch.Tensor) -> object:
            return result(self.layers(input))

    found = [value.name for value in fl.lower(frozen(Named(), 2, 6)).graph.output]
    assert found == names if names else "input" not in found and len(found) == 2


def test_what_reads_a_parameter_that_no_product_reads_says_why_it_is_float() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gru = nn.Linear(6, 8), nn.GRU(8, 8, batch_first=True)
            self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.middle(self.gru(self.first(x).tanh())[0]).tanh())

    told = {node.name: node.doc_string for node in fl.lower(frozen(Recurrent(), 2, 3, 6)).graph.node}
    assert told["gru.weight_ih_l0"] == "float: GRU runs as a whole: its weights cannot be reached"


def test_all_inputs_have_one_batch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*[nn.Linear(6, 6) for _ in range(3)])

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return self.layers(x) * scale

    program = fl.compile(Two(), spec(), (torch.randn(2, 6), torch.randn(2, 1)), total_steps=40)
    program.driver.resume(40)
    graph = fl.lower(program.freeze()).graph
    shapes = [value.type.tensor_type.shape for value in (*graph.input, *graph.output)]
    assert [shape.dim[0].dim_param for shape in shapes] == ["batch"] * 3


def test_a_cast_to_the_type_that_a_value_has_is_not_written(lowered: onnx.ModelProto) -> None:
    assert "CastLike" not in [node.op_type for node in lowered.graph.node]


def test_a_graph_that_is_not_binary_is_refused() -> None:
    graph = fl.compile(chain(), spec(), (torch.randn(2, 3, 8, 8),), total_steps=40).graph
    with pytest.raises(PassError, match="cannot be lowered: it is not binary"):
        fl.lower(graph)


def test_an_unknown_target() -> None:
    with pytest.raises(
        LoweringError, match='there is no target "potable"\n  unknown target\n    -> did you mean "portable"'
    ):
        fl.lower(frozen(chain(), 2, 3, 8, 8), "potable")

"""RoundWeights: weights that stay float have eight bits, in the graph as in the file, and nothing else changes."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.contents import contents
from frostline.compiler.eight_bits import widen
from frostline.compiler.fusing import fuse
from frostline.compiler.invariants import rounded
from frostline.compiler.kernels.build import library
from frostline.errors import DriftError, PassError
from frostline.passes import PackWeights, RoundWeights, UseKernels
from frostline.passes.lowering import TARGETS
from tests.models.integers import BiReal
from tests.models.operations import Computed, Convolutions, Experts, Products
from tests.models.small import chain, spec

ROUND = [RoundWeights()]


def frozen(model: nn.Module, *shape: int, **edits: object) -> fl.Graph:
    program = fl.compile(model, spec(**edits), (torch.randn(2, *shape),), total_steps=20)
    program.driver.resume(20)
    binary = program.freeze()
    binary.module.eval()
    return binary


def captured(model: nn.Module, x: Tensor) -> fl.Graph:
    """A graph in which every weight is float."""
    return fl.capture(model.eval(), (x,))


def held(graph: fl.Graph) -> dict[str, tuple[int, ...]]:
    """The shape of the scales of every weight that was rounded."""
    state = graph.module.state_dict()
    return {
        name.removesuffix("_bytes"): tuple(state[f"{name.removesuffix('_bytes')}_scale"].shape)
        for name in state
        if name.endswith("_bytes")
    }


def given_rounded(model: nn.Module, graph: fl.Graph) -> nn.Module:
    """The model, with the weights that a graph was rounded to as its parameters."""
    twin, state = copy.deepcopy(model), graph.module.state_dict()
    own = dict(twin.named_parameters())
    for name in held(graph):
        wide = widen(state[f"{name}_bytes"], state[f"{name}_scale"])
        own[name].data = wide.reshape(own[name].shape)
    return twin


def test_the_text_of_a_graph(golden: Callable[[str, str], None]) -> None:
    binary = frozen(chain(layers=1), 3, 8, 8)
    golden("graph-binary", binary.show())
    golden("graph-rounded", fl.run(binary, ROUND).show())


CONVOLUTIONS = {
    "stem.weight": (6, 1, 1, 1),
    "depthwise.weight": (6, 1, 1, 1),
    "grouped.weight": (8, 1, 1, 1),
    "circular.weight": (6, 1, 1, 1),
    "larger.weight": (2, 1, 2, 1, 1),
    "line.weight": (33, 1, 1),
    "longer.weight": (1, 5, 1),
    "volume.weight": (3, 1, 1, 1, 1),
    "deeper.weight": (1, 4, 1, 1, 1),
    "head.weight": (4, 1),
}


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (Convolutions, (3, 9, 9), CONVOLUTIONS),
        (Products, (4, 6), {"stem.weight": (6, 1), "in_proj_weight": (18, 1), "head.weight": (3, 1)}),
        (Experts, (6,), {"stem.weight": (8, 1), "router.weight": (3, 1), "head.weight": (4, 1), "experts": (3, 8, 1)}),
        (Computed, (3, 6, 6), {"stem.weight": (6, 1, 1, 1), "ask.weight": (6, 1), "head.weight": (5, 1)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_operations_of_every_kind_have_a_scale_for_each_of_their_outputs(
    make: Callable[[], nn.Module], shape: tuple[int, ...], expected: dict[str, tuple[int, ...]]
) -> None:
    model, x = make(), torch.randn(3, *shape)
    before = captured(model, x)
    after = fl.run(before, ROUND)
    assert held(after) == expected
    assert not list(rounded(after))
    assert torch.equal(after.module(x), given_rounded(model, after)(x))
    assert not {name for name, _ in after.module.named_parameters()} & expected.keys()


PRODUCTS: list[tuple[Callable[[Tensor, Tensor], Tensor], int]] = [
    (lambda x, w: x @ w, 1),
    (lambda x, w: x.matmul(w.t()), 0),
    (lambda x, w: torch.mm(x, w.mT), 0),
    (lambda x, w: (w @ x.t()).t(), 0),
    (lambda x, w: torch.addmm(x, x, w), 1),
    (lambda x, w: torch.einsum("bi,oi->bo", x, w), 0),
    (lambda x, w: torch.einsum("io,bi->bo", w, x), 1),
    (lambda x, w: nn.functional.linear(x, w.T), 1),
]


class Multiplied(nn.Module):
    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], size: int) -> None:
        super().__init__()
        self.product, self.w = product, nn.Parameter(torch.randn(size, size))

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.w)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PRODUCTS), st.integers(2, 3), st.integers(2, 6))
def test_products_of_every_spelling(product: tuple[Callable[..., Tensor], int], batch: int, size: int) -> None:
    model, x = Multiplied(product[0], size), torch.randn(batch, size)
    after = fl.run(captured(model, x), ROUND)
    assert held(after) == {"w": (size, 1) if product[1] == 0 else (1, size)}
    assert torch.equal(after.module(x), given_rounded(model, after)(x))
    largest = model.w.abs().amax(1 - product[1], keepdim=True)
    assert bool(((given_rounded(model, after).w - model.w).abs() <= largest / 253).all())  # type: ignore[operator]


class Kept(nn.Module):
    """Weights of products that stay as they are, each for a reason of its own, and one that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.table, self.both_ways, self.given, self.repeated = (nn.Parameter(torch.randn(4, 4)) for _ in range(4))
        self.shared = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.embed(x) + nn.functional.embedding(x % 4, self.table)
        y = nn.functional.linear(y, self.table) @ self.both_ways
        y = nn.functional.linear(y, self.both_ways) @ self.given
        y = torch.bmm(y, self.repeated.expand(x.shape[0], -1, -1))
        y = self.shared(torch.tanh(self.shared(y)))
        return nn.functional.linear(y, self.embed.weight), self.given


def test_what_is_read_otherwise_stays_as_it_is_and_what_is_shared_is_rounded_once() -> None:
    model, x = Kept(), torch.randint(0, 7, (3, 5))
    after = fl.run(captured(model, x), ROUND)
    assert held(after) == {"shared.weight": (4, 1)}
    assert sum(node.target is widen for node in after.nodes) == 1
    for own, expected in zip(after.module(x), given_rounded(model, after)(x), strict=True):
        assert torch.equal(own, expected)


def test_weights_of_other_types_stay_as_they_are() -> None:
    model, x = nn.Linear(4, 4).double(), torch.randn(2, 4, dtype=torch.float64)
    assert held(fl.run(captured(model, x), ROUND)) == {}


def test_the_given_graph_and_the_float_net_stay_as_they_are() -> None:
    model, x = chain(), torch.randn(2, 3, 8, 8)
    program = fl.compile(model, spec(), (x,), total_steps=10)
    program.driver.resume(10)
    binary = program.freeze()
    twins = [copy.deepcopy(module.state_dict()) for module in (model, program.net, binary.module)]
    fl.run(binary, ROUND)
    for module, twin in zip((model, program.net, binary.module), twins, strict=True):
        state = module.state_dict()
        assert state.keys() == twin.keys()
        assert all(torch.equal(state[name], value) for name, value in twin.items())
    own = captured(model, x)
    assert held(fl.run(own, ROUND))
    assert dict(own.module.named_parameters()).keys() == dict(model.named_parameters()).keys()


def test_a_second_time_changes_nothing() -> None:
    once = fl.run(frozen(BiReal(), 4, 8, 8), ROUND)
    twice = fl.run(once, ROUND)
    assert twice.show() == once.show()
    one, two = once.module.state_dict(), twice.module.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_goes_together_with_kernels_in_either_order() -> None:
    binary, x = frozen(BiReal(), 4, 8, 8), torch.randn(3, 4, 8, 8)
    expected = fl.run(binary, ROUND).module(x)
    for passes in ([RoundWeights(), UseKernels()], [UseKernels(), RoundWeights()]):
        both = fl.run(binary, passes)
        assert held(both)
        assert any("binary_conv" in str(node.target) for node in both.nodes)
        torch.testing.assert_close(both.module.eval()(x), expected, rtol=1e-6, atol=1e-6)


def test_weights_that_are_no_numbers_are_refused_all_of_them() -> None:
    model = chain()
    binary = frozen(model, 3, 8, 8)
    with torch.no_grad():
        parameters = dict(binary.module.named_parameters())
        parameters["0.weight"][0, 0, 0, 0] = torch.nan
        parameters["17.weight"][2] = torch.inf
    with pytest.raises(PassError, match="RoundWeights cannot run: the graph is not finite") as caught:
        fl.run(binary, ROUND)
    assert [offence.what for offence in caught.value.offences] == [
        "0.weight holds values that are not finite",
        "17.weight holds values that are not finite",
    ]


def test_a_graph_that_is_not_packed_is_refused() -> None:
    program = fl.compile(chain(), spec(), (torch.randn(2, 3, 8, 8),), total_steps=10)
    with pytest.raises(PassError, match="RoundWeights cannot run: the graph is not binary"):
        fl.run(program.graph, ROUND)
    assert RoundWeights.requires[:3] == (*PackWeights.requires, *UseKernels.requires[1:])


def files(model: nn.Module, shape: tuple[int, ...], folder: Path, **edits: object) -> tuple[Path, Path, fl.Graph]:
    """The file of a network as it is, that with rounded weights, and the graph of the latter."""
    binary = frozen(model, *shape, **edits)
    graph = fl.run(binary, ROUND)
    fl.export(binary, folder / "plain.onnx")
    fl.export(graph, folder / "rounded.onnx")
    return folder / "plain.onnx", folder / "rounded.onnx", graph


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_of_every_target_is_proven_and_counts_its_weights(target: str, tmp_path: Path) -> None:
    binary = frozen(chain(width=32), 3, 8, 8)
    plain = fl.export(binary, tmp_path / "plain.onnx", target=target)
    certificate = fl.export(fl.run(binary, ROUND), tmp_path / "m.onnx", target=target)
    weights, scales = 3 * 32 * 9 + 32 * 5, 32 + 5
    assert (plain.rounded, certificate.rounded) == (0, weights)
    assert f"  in 8 bits    {weights:,} weights of operations that stay float\n" in str(certificate)
    assert "in 8 bits" not in str(plain)
    assert certificate.file_bytes < plain.file_bytes
    saved = certificate.float_bytes - certificate.file_bytes - (plain.float_bytes - plain.file_bytes)
    assert saved == 3 * weights - 4 * scales
    assert fl.Certificate.from_json(certificate.to_json()) == certificate


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Convolutions, (3, 9, 9)), (Products, (4, 6)), (Experts, (6,)), (Computed, (3, 6, 6)), (BiReal, (4, 8, 8))],
)
def test_files_of_every_kind_of_operation_are_proven(
    make: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = fl.run(frozen(make(), *shape, binarize__weights=False), ROUND)
    certificate = fl.export(graph, tmp_path / "m.onnx", inputs=(torch.randn(8, *shape),))
    assert certificate.rounded > 0
    assert certificate.flips == 0


def test_the_file_holds_bytes_and_scales_and_says_so(tmp_path: Path) -> None:
    _, path, _ = files(chain(), (3, 8, 8), tmp_path)
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    assert tensors["0.weight_bytes"].data_type == onnx.TensorProto.INT8
    assert list(tensors["0.weight_scale"].dims) == [6, 1, 1, 1]
    assert not {"0.weight", "17.weight"} & tensors.keys()
    nodes = {node.name: node for node in model.graph.node}
    assert (nodes["0"].op_type, nodes["0"].doc_string) == ("Conv", "float: keep_float: first")
    assert (nodes["17"].op_type, nodes["17"].doc_string) == ("Gemm", "float: keep_float: last")
    rows = [" ".join(line.split()) for line in contents(path).splitlines()]
    assert "0 Conv float 6 x 3 x 3 x 3, 8 bits 210 keep_float: first" in rows
    assert "17 Gemm float 5 x 6, 8 bits 70 keep_float: last" in rows


def optimised(model: onnx.ModelProto, path: Path, operators: Path | None = None) -> Counter[str]:
    """The nodes that a session runs, by kind."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    if operators is not None:
        options.register_custom_ops_library(str(operators))
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = onnx.load(path)
    constants = {tensor.name for tensor in made.graph.initializer}
    products = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "FusedConv")]
    assert products
    assert all(node.input[1] in constants for node in products)
    return Counter(node.op_type for node in made.graph.node)


@pytest.mark.parametrize(("make", "shape"), [(chain, (3, 8, 8)), (BiReal, (4, 8, 8))])
def test_a_session_runs_the_nodes_of_the_float_file(
    make: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    plain, path, graph = files(make(), shape, tmp_path)
    one, two = onnx.load(plain), onnx.load(path)
    assert optimised(one, tmp_path / "a.onnx") == optimised(two, tmp_path / "b.onnx")
    kernels = library()
    assert optimised(fuse(one), tmp_path / "c.onnx", kernels) == optimised(fuse(two), tmp_path / "d.onnx", kernels)
    x = torch.randn(5, *shape)
    session = fl.session(path, "cpu", kernels=True)
    (own,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(own), graph.module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["0.weight_bytes", "0.weight_scale"])
def test_a_byte_or_scale_that_differs_in_its_last_place_is_found(name: str, tmp_path: Path) -> None:
    _, path, graph = files(chain(), (3, 8, 8), tmp_path)
    model = onnx.load(path)
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    first = value.reshape(-1)[:1]
    first.copy_(first.sign() * (first.abs() - 1) if value.dtype == torch.int8 else first.nextafter(torch.zeros(1)))
    tensor.CopyFrom(numpy_helper.from_array(value.numpy(), name))
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(DriftError) as caught:
        fl.verify(tmp_path / "edited.onnx", graph)
    assert "the 8 bits a weight of 0.weight are not in the file" in [offence.what for offence in caught.value.offences]


def test_neither_file_passes_for_the_other(tmp_path: Path) -> None:
    binary = frozen(chain(width=32), 3, 8, 8)
    graph = fl.run(binary, ROUND)
    fl.export(binary, tmp_path / "plain.onnx")
    fl.export(graph, tmp_path / "rounded.onnx")
    with pytest.raises(DriftError, match=r"0\.weight are not in the file"):
        fl.verify(tmp_path / "plain.onnx", graph)
    with pytest.raises(DriftError, match="differs from the graph's"):
        fl.verify(tmp_path / "rounded.onnx", binary)


def test_a_certificate_from_before_weights_were_rounded_is_read(tmp_path: Path) -> None:
    certificate = fl.export(frozen(chain(), 3, 8, 8), tmp_path / "m.onnx")
    text = certificate.to_json()
    assert '"rounded": 0, ' in text
    assert fl.Certificate.from_json(text.replace('"rounded": 0, ', "")) == certificate

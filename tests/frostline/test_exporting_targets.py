"""Whole networks for every target: written, re-opened, proven by integers, and read again."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.contents import contents
from frostline.compiler.exported import copied, named, read_certificate
from frostline.errors import DriftError, LoweringError
from frostline.passes.lowering import TARGETS
from tests.frostline.test_exporting import Shapes, edited, frozen
from tests.models.resnet import BasicBlock
from tests.models.small import ZERO_ONE, Attention, chain, positive_chain

OTHERS = [name for name in TARGETS if name != "portable"]


class Residual(nn.Module):
    """Residual blocks, the second of which halves its maps: `[n, 3, 8, 8]` to `[n, 5]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 16, 2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((-2, -1)))


class Wide(nn.Module):
    """Linear operations of more inputs than half precision can add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.narrow, self.wide = nn.Linear(4, 4100), nn.Linear(4100, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.wide(torch.tanh(self.narrow(torch.tanh(self.stem(x)))))))


Net = tuple[fl.Graph, onnx.ModelProto, Tensor]


@pytest.fixture(
    scope="module",
    params=[
        (chain, (2, 3, 8, 8), {"binarize__keep_float": []}),
        (Residual, (2, 3, 8, 8), {}),
        (Attention, (2, 3, 8), {}),
        (Shapes, (2, 3, 9, 9), {}),
        (positive_chain, (2, 3, 8, 8), {"overrides": ZERO_ONE}),
    ],
    ids=lambda param: str(param[0].__name__),
)
def net(request: pytest.FixtureRequest) -> Net:
    """A frozen network, its portable model, and samples."""
    make, shape, edits = request.param
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
        binary = frozen(make(), shape, **edits)
        return binary, fl.lower(binary), torch.randn(40, *shape[1:])


def write(portable: onnx.ModelProto, target: str, path: Path) -> Path:
    model = copied(portable)
    TARGETS[target].rewrite(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("target", OTHERS)
def test_a_file_is_proven(net: Net, target: str, tmp_path: Path) -> None:
    binary, portable, x = net
    path = write(portable, target, tmp_path / "model.onnx")
    certificate = fl.verify(path, binary, (x,), target=target)
    for proof in certificate.operations:
        assert proof.products == ("levels" if "Binarize" in proof.kind else "equal")
    assert target == "cpu-int8" or {proof.products for proof in certificate.operations} == {"equal"}
    assert certificate.deviation < 1e-5
    assert certificate.operations[0].kind in contents(path)
    session = fl.session(path, provider="cpu", threads=1, kernels=False)
    for batch in (1, 3):
        (own,) = session.run(None, {session.get_inputs()[0].name: x[:batch].numpy()})
        assert own.shape == binary.module.eval()(x[:batch]).shape


@pytest.mark.parametrize("target", OTHERS)
def test_a_flipped_bit_is_noticed(net: Net, target: str, tmp_path: Path) -> None:
    binary, portable, x = net

    def flip(model: onnx.ModelProto) -> None:
        held = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("_bits"))
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) ^ 1, held.name))

    path = edited(write(portable, target, tmp_path / "model.onnx"), tmp_path, flip)
    with pytest.raises(DriftError, match="are not in the file"):
        fl.verify(path, binary, (x,))


def test_convolutions_of_a_network_know_their_sizes(net: Net, tmp_path: Path) -> None:
    kinds = [node.op_type for _, node in named(onnx.load(write(net[1], "cpu-int8", tmp_path / "model.onnx")))]
    groups = [attribute.i for _, node in named(net[1]) for attribute in node.attribute if attribute.name == "group"]
    assert sum(kind.endswith("AsFloat") for kind in kinds) == sum(group > 1 for group in groups)


def test_a_certificate_says_what_was_not_done(tmp_path: Path) -> None:
    binary = frozen(Wide(), (2, 4))
    certificate = fl.export(binary, tmp_path / "model.onnx", target="cuda-fp16")
    assert read_certificate(tmp_path / "model.onnx") == certificate
    half = str(certificate)
    assert "  in float32   1 of them, by this target: narrow" in half.splitlines()
    assert "  NOTE         proven on the CPU provider; CUDA has not run this file" in half.splitlines()
    eight = fl.export(binary, tmp_path / "model.onnx", target="cpu-int8")
    assert (eight.target, eight.note) == ("cpu-int8", "")
    assert "in float32" not in str(eight)


def test_operations_that_a_target_does_not_have_are_listed_with_their_lines() -> None:
    binary = frozen(Attention(), (2, 3, 8), binarize__activations=False)
    with pytest.raises(LoweringError, match='"tensorrt-int8" does not have every operation') as caught:
        fl.lower(binary, "tensorrt-int8")
    assert [offence.what for offence in caught.value.offences] == [
        f"{name} is a BinaryWeightLinear" for name in ("q", "k", "v", "out")
    ]
    lines = [str(offence.where).rsplit("/", 1)[-1].split(":")[0] for offence in caught.value.offences]
    assert lines == ["small.py"] * 4
    remedies = {offence.remedy for offence in caught.value.offences}
    assert remedies == {"choose another target: portable or cpu-int8 or cuda-fp16"}

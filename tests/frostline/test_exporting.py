"""Export and verify, on every kind of operation: written, re-opened, proven."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.contents import contents
from frostline.compiler.exported import read_certificate
from frostline.errors import DriftError, FileError, FrostlineError, UsageError
from tests.models.small import ZERO_ONE, Attention, Positive, Scaled, Tied, chain, positive_chain, spec


class Shapes(nn.Module):
    """Convolutions of every kind in a row: `[n, 3, 9, 9]` to `[n, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.depthwise = nn.Conv2d(6, 6, 3, padding="same", groups=6, dilation=2)
        self.grouped = nn.Conv2d(6, 8, (3, 1), stride=(2, 1), padding=(1, 0), groups=2, bias=False)
        self.circular = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.even = nn.Conv2d(8, 5, 2, padding="same")
        self.line = nn.Conv1d(5, 33, 3, padding="valid")
        self.dense = nn.Linear(33, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.even(torch.tanh(self.circular(torch.tanh(self.grouped(torch.tanh(self.depthwise(self.stem(x))))))))
        return self.head(torch.tanh(self.dense(torch.tanh(self.line(x.flatten(2))).mean(-1))))


class Named(nn.Module):
    """Names that an exporter gives to values of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.linear, self.tanh, self.x = (nn.Linear(4, 4) for _ in range(4))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.linear(torch.tanh(self.inp(x))))
        return self.out(torch.tanh(self.x(torch.tanh(self.tanh(x)))))


MIXED = [{"sites": "mix.activation", "levels": [0, 1]}, {"sites": "down.activation", "levels": [0, 1]}]
"""Overrides for what is never negative alone."""


def frozen(model: nn.Module, shape: tuple[int, ...], **edits: object) -> fl.Graph:
    program = fl.compile(model, spec(**edits), (torch.randn(shape),), total_steps=100)
    program.net.train()
    program.net(torch.randn(16, *shape[1:]))  # BatchNorm sees some statistics
    program.driver.resume(100)
    return program.freeze()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("make", "shape", "edits", "operations"),
    [
        (chain, (2, 3, 8, 8), {}, {"BinaryConv": 4}),
        (chain, (1, 3, 8, 8), {"binarize__activations": False}, {"BinaryWeightConv": 4}),
        (chain, (2, 3, 8, 8), {"binarize__weights": False}, {}),
        (chain, (2, 3, 8, 8), {"binarize__keep_float": []}, {"BinaryConv": 5, "BinaryLinear": 1}),
        (Attention, (2, 3, 8), {}, {"BinaryLinear": 4}),
        (Tied, (2, 4), {}, {"BinaryLinear": 4}),
        (Shapes, (2, 3, 9, 9), {}, {"BinaryConv": 3, "BinaryNarrowConv": 2, "BinaryLinear": 1}),
        (nn.Linear, (2, 8), {"binarize__keep_float": []}, {"BinaryLinear": 1}),
        (Scaled, (2, 3, 8, 8), {}, {"BinaryConv": 3}),
        (Named, (2, 4), {}, {"BinaryLinear": 3}),
        (positive_chain, (2, 3, 8, 8), {"overrides": ZERO_ONE}, {"ZeroOneConv": 3}),
        (positive_chain, (2, 3, 8, 8), {"overrides": ZERO_ONE, "progression__per": "channel"}, {"ZeroOneConv": 3}),
        (Positive, (2, 3, 8), {"overrides": ZERO_ONE}, {"ZeroOneLinear": 4}),
        (Positive, (2, 3, 8), {"overrides": MIXED}, {"ZeroOneLinear": 2, "BinaryLinear": 2}),
    ],
)
def test_a_file_is_proven(
    make: Callable[..., nn.Module],
    shape: tuple[int, ...],
    edits: dict[str, Any],
    operations: dict[str, int],
    tmp_path: Path,
) -> None:
    model = make(8, 5) if make is nn.Linear else make()
    binary = frozen(model, shape, **edits)
    x = torch.randn(40, *shape[1:])
    certificate = fl.export(binary, tmp_path / "model.onnx", inputs=(x,))
    kinds = [proof.kind for proof in certificate.operations]
    assert {kind: kinds.count(kind) for kind in kinds} == operations
    exact = "close" if edits.get("binarize__activations") is False else "equal"
    assert {proof.products for proof in certificate.operations} <= {exact}
    assert certificate.samples == 40
    assert certificate.deviation < 1e-5
    assert read_certificate(tmp_path / "model.onnx") == certificate
    session = fl.session(tmp_path / "model.onnx", provider="cpu", threads=1)
    for batch in (1, 3):
        (own,) = session.run(None, {session.get_inputs()[0].name: x[:batch].numpy()})
        assert own.shape == binary.module.eval()(x[:batch]).shape


@pytest.mark.parametrize(
    ("make", "shape"), [(positive_chain, (2, 3, 8, 8)), (Positive, (2, 3, 8))], ids=["convolutions", "attention"]
)
def test_a_network_of_relu_is_trained_to_zero_and_one_and_proven(
    make: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    edits = spec(overrides=ZERO_ONE, gradient__frozen="clipped")
    program = fl.compile(make(), edits, (torch.randn(shape),), total_steps=12)
    assert program.plan.constant == ()
    sgd = torch.optim.SGD(program.net.parameters(), lr=0.05)
    for _ in range(14):  # two steps past settling
        loss = (program.net(torch.randn(16, *shape[1:])) - 1).square().mean()
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        program.advance()
    x = torch.randn(40, *shape[1:])
    binary = program.freeze()
    assert torch.allclose(binary.module.eval()(x), program.net.eval()(x), atol=1e-5)
    certificate = fl.export(binary, tmp_path / "model.onnx", inputs=(x,))
    assert {proof.products for proof in certificate.operations} == {"equal"}
    assert certificate.constant == ()
    assert certificate.zero_one == 3
    assert "3 sites hold 0 and 1 and nothing else" in str(certificate)
    assert "ZeroOne" in contents(tmp_path / "model.onnx")


def test_masks_of_channels_are_exported_at_another_size_than_they_were_trained_at(tmp_path: Path) -> None:
    programs = [
        fl.compile(chain(), spec(progression__per="channel"), (torch.randn(2, 3, *size),), total_steps=8)
        for size in ((8, 8), (14, 10))
    ]
    trained, other = programs
    trained.driver.resume(8)
    other.load_state_dict(trained.state_dict())
    other.net.load_state_dict(trained.net.state_dict())
    x = torch.randn(40, 3, 14, 10)
    certificate = fl.export(other.freeze(), tmp_path / "model.onnx", inputs=(x,))
    assert {proof.products for proof in certificate.operations} == {"equal"}
    session = fl.session(tmp_path / "model.onnx", provider="cpu")
    (own,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    agreeing = own.argmax(1) == trained.freeze().module.eval()(x).argmax(1).numpy()
    assert agreeing.mean() > 0.9


def test_the_levels_of_a_file_are_proven_too(tmp_path: Path) -> None:
    """Signs in place of 0 and 1, and a threshold that 0.5 does not reach."""
    binary = frozen(Positive(), (2, 3, 8), overrides=ZERO_ONE)
    fl.export(binary, tmp_path / "model.onnx")

    def lower_the_low(model: onnx.ModelProto) -> None:
        constant_of(model, "BinarizeZeroOne", "low").float_data[:] = [-1.0]

    def lower_the_low_of_integers(model: onnx.ModelProto) -> None:
        constant_of(model, "BinarizeZeroOneAt", "total").float_data[:] = [0.0]

    def raise_the_threshold(model: onnx.ModelProto) -> None:
        constant_of(model, "BinarizeZeroOne", "threshold").float_data[:] = [
            np.nextafter(np.float32(0.5), np.float32(1))
        ]

    with pytest.raises(DriftError, match=r"mix\.activation is not two-valued in the file"):
        fl.verify(edited(tmp_path / "model.onnx", tmp_path, lower_the_low), binary)
    with pytest.raises(DriftError, match=r"down\.activation is not two-valued in the file"):
        fl.verify(edited(tmp_path / "model.onnx", tmp_path, lower_the_low_of_integers), binary)
    with pytest.raises(DriftError, match=r"0\.5 does not become \+1 at mix\.activation"):
        fl.verify(edited(tmp_path / "model.onnx", tmp_path, raise_the_threshold), binary)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fl.Graph]:
    torch.manual_seed(0)
    binary = frozen(chain(width=32), (2, 3, 8, 8))
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    fl.export(binary, path)
    return path, binary


def test_the_file_is_smaller_than_with_float_weights(exported: tuple[Path, fl.Graph]) -> None:
    certificate = read_certificate(exported[0])
    assert certificate.float_bytes - certificate.file_bytes == pytest.approx(4 * 32 * 32 * 9 * (4 - 1 / 8), abs=3000)
    assert certificate.ratio > 3


def test_the_text_of_a_certificate(exported: tuple[Path, fl.Graph]) -> None:
    text = str(read_certificate(exported[0]))
    assert "8 sites hold +1 and -1 and nothing else" in text
    assert "4 binary operations give the graph's integers for the graph's own inputs" in text
    assert "2 of 2 decisions agree" in text


def test_the_contents_of_a_file(exported: tuple[Path, fl.Graph]) -> None:
    text = contents(exported[0])
    row = next(line for line in text.splitlines() if line.startswith(" 12 "))
    assert row.split() == ["12", "BinaryConv", "binary", "32", "x", "32", "x", "3", "x", "3", "1,152"]
    assert "graph, functions, certificate" in text
    assert sum(int(line.split("  ")[-1].replace(",", "")) for line in _sizes(text)) == exported[0].stat().st_size


def _sizes(text: str) -> list[str]:
    """The rows of a file's contents up to their last number."""
    rows = (re.match(r".*?  ([\d,]+)(?=  |$)", line) for line in text.splitlines()[3:])
    return [row.group() for row in rows if row]


def test_a_file_tells_those_who_open_it_what_is_what(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Hardtanh(), nn.Linear(8, 8), nn.Hardtanh(), nn.Linear(8, 2, bias=False))
    program = fl.compile(model, fl.load_spec("stompp"), (torch.randn(2, 4),), total_steps=8)
    program.driver.resume(8)
    fl.export(program.freeze(), tmp_path / "model.onnx", target="cpu-int8")
    written = onnx.load(tmp_path / "model.onnx")
    floats = {node.name: node.doc_string for node in written.graph.node if node.doc_string}
    assert floats == {"0": "float: keep_float: first", "4": "float: keep_float: last"}
    assert all(function.doc_string for function in written.functions)
    rows = [" ".join(line.split()) for line in contents(tmp_path / "model.onnx").splitlines()]
    assert rows[0] == "1 operations of one-bit weights, 32 bytes; operators: 1 Binarize, 1 BinaryLinear"
    assert "0 Gemm float 8 x 4 160 keep_float: first" in rows
    assert "2 BinaryLinear binary 8 x 8 32" in rows
    assert [row for row in rows if row.endswith("keep_float: last")]


def edited(path: Path, tmp_path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, tmp_path / "edited.onnx")
    return tmp_path / "edited.onnx"


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def flip_a_bit(model: onnx.ModelProto) -> None:
    bits = numpy_helper.to_array(tensor(model, "3.weight_bits")).copy()
    bits.flat[0] ^= 1
    tensor(model, "3.weight_bits").CopyFrom(numpy_helper.from_array(bits, "3.weight_bits"))


def shift_a_float(model: onnx.ModelProto) -> None:
    bias = numpy_helper.to_array(tensor(model, "1.bias")) + np.float32(0.5)
    tensor(model, "1.bias").CopyFrom(numpy_helper.from_array(bias, "1.bias"))


def constant_of(model: onnx.ModelProto, name: str, value: str) -> onnx.TensorProto:
    function = next(function for function in model.functions if function.name == name)
    return next(node for node in function.node if node.output[0] == value).attribute[0].t


def strengthen_the_plus(model: onnx.ModelProto) -> None:
    constant_of(model, "Binarize", "high").float_data[:] = [1.5]


@pytest.mark.parametrize(
    ("edit", "faults"),
    [
        (flip_a_bit, ["the bits of 3.weight are not in the file", "integers of 3 are not the graph's"]),
        (shift_a_float, ["the input of 3.activation differs"]),
        (strengthen_the_plus, ["the values of 3.activation are not the graph's", "3.activation is not two-valued"]),
    ],
)
def test_an_edited_file_is_noticed_and_does_not_verify(
    edit: Callable[[onnx.ModelProto], None], faults: list[str], exported: tuple[Path, fl.Graph], tmp_path: Path
) -> None:
    path, binary = exported
    other = edited(path, tmp_path, edit)
    with pytest.raises(FileError, match="was edited after export"):
        read_certificate(other)
    with pytest.raises(DriftError) as caught:
        fl.verify(other, binary)
    assert all(fault in str(caught.value) for fault in faults)


def test_another_network_s_file_does_not_verify(exported: tuple[Path, fl.Graph]) -> None:
    with pytest.raises(FrostlineError):
        fl.verify(exported[0], frozen(chain(layers=2), (2, 3, 8, 8)))


def test_a_file_that_is_not_ours(tmp_path: Path, exported: tuple[Path, fl.Graph]) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(exported[0].read_bytes()[:5000])
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
        ),
        tmp_path / "other.onnx",
    )
    for name, message in (
        ("none.onnx", "cannot read"), ("text.onnx", "is not an ONNX model"), ("cut.onnx", "is not an ONNX model"),
        ("other.onnx", "is not a file of frostline"),
    ):  # fmt: skip
        with pytest.raises(FileError, match=message):
            read_certificate(tmp_path / name)


def test_when_the_proof_fails_there_is_no_file(
    exported: tuple[Path, fl.Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(graph: fl.Graph, target: str) -> onnx.ModelProto:
        model = onnx.load(exported[0])
        flip_a_bit(model)
        return model

    (tmp_path / "model.onnx").write_text("the last good one")
    monkeypatch.setattr("frostline.exporting.lower", spoiled)
    with pytest.raises(DriftError):
        fl.export(exported[1], tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "the last good one"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_folder_that_does_not_exist(exported: tuple[Path, fl.Graph], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"):
        fl.export(exported[1], tmp_path / "no" / "model.onnx")


def test_a_disk_that_takes_no_more(exported: tuple[Path, fl.Graph], tmp_path: Path) -> None:
    """The system refuses to let any file grow over 4 KiB, half of what the model needs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(FileError, match="File too large"):
            fl.export(exported[1], tmp_path / "model.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def edit_the_certificate(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "frostline.certificate")
    entry.value = entry.value.replace('"flips": 0', '"flips": 7').replace('"samples": 2', '"samples": 999')


def forget_that_zero_is_positive(model: onnx.ModelProto) -> None:
    function = next(function for function in model.functions if function.name == "Binarize")
    next(node for node in function.node if node.op_type == "GreaterOrEqual").op_type = "Greater"


def test_an_edited_certificate_is_noticed(exported: tuple[Path, fl.Graph], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="was edited after export"):
        read_certificate(edited(exported[0], tmp_path, edit_the_certificate))


def test_the_level_at_the_threshold_is_proven(exported: tuple[Path, fl.Graph], tmp_path: Path) -> None:
    with pytest.raises(DriftError, match=r"0 does not become \+1 at 3\.activation"):
        fl.verify(edited(exported[0], tmp_path, forget_that_zero_is_positive), exported[1])


def test_the_size_is_the_file_s(exported: tuple[Path, fl.Graph]) -> None:
    assert read_certificate(exported[0]).file_bytes == exported[0].stat().st_size


def test_a_site_of_one_value_only_is_warned_of(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    certificate = fl.export(frozen(model, (2, 4)), tmp_path / "model.onnx")
    assert certificate.constant == ("2.activation",)
    assert "one value only, for all samples, and so no information: 2.activation" in str(certificate)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"inputs is not a tuple"),
        ((torch.zeros(2, 4, 8, 8),), "the model does not run on these inputs"),
        ((torch.zeros(2, 3, 8, 8), 1), "the model does not run on these inputs"),
        ((np.zeros((2, 3, 8, 8)),), "the model does not run on these inputs"),
    ],
)
def test_inputs_that_are_none(inputs: Any, message: str, exported: tuple[Path, fl.Graph]) -> None:
    with pytest.raises(UsageError, match=message):
        fl.verify(exported[0], exported[1], inputs)


def test_keywords_alone_are_what_a_file_is_proven_on(exported: tuple[Path, fl.Graph], tmp_path: Path) -> None:
    certificate = fl.export(exported[1], tmp_path / "model.onnx", kwargs={"input": torch.randn(5, 3, 8, 8)})
    assert certificate.decisions == 5
    with pytest.raises(UsageError, match="the model does not run on these inputs"):
        fl.export(exported[1], tmp_path / "model.onnx", kwargs={"x": torch.randn(5, 3, 8, 8)})


def test_something_else_than_a_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"export what program\.freeze\(\) returns"):
        fl.export(chain(), tmp_path / "model.onnx")  # type: ignore[arg-type]

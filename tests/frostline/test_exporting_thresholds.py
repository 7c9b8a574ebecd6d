"""Files whose sites compare integers with thresholds: written, re-opened, proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import frostline as fl
from frostline.compiler.certificate import Certificate
from frostline.compiler.contents import contents
from frostline.compiler.exported import read_certificate
from frostline.errors import DriftError
from frostline.passes import FoldBatchNorm
from tests.models.integers import Flattened, Residual, Shortcut, Tokens, conv
from tests.models.small import ZERO_ONE, chain, spec
from tests.passes.test_fold_batch_norm import unfolded


def frozen(
    model: nn.Module, shape: tuple[int, ...], *, scale: float | None = None, shift: float = 0.0, **edits: object
) -> fl.Graph:
    """A binary graph, as if it were trained; `scale` and `shift` are those of every other channel of BatchNorm."""
    program = fl.compile(model, fl.edit_spec(spec(binarize__keep_float=[]), edits), (torch.randn(2, *shape),), 9)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            if scale is not None:
                norm.weight.data[::2], norm.bias.data[::2] = scale, shift
    program.net.train()
    program.net(torch.randn(16, *shape))  # BatchNorm sees some statistics
    program.driver.resume(9)
    return program.freeze()


@pytest.mark.parametrize(
    ("make", "shape", "edits", "thresholds"),
    [
        (chain, (3, 8, 8), {"binarize.scale": "channel"}, 4),
        (chain, (3, 8, 8), {"overrides": ZERO_ONE}, 4),
        (Residual, (8, 6, 6), {}, 2),
        (Shortcut, (4, 6, 6), {}, 1),
        (Flattened, (4, 6, 6), {}, 1),
        (lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Hardtanh()), (4, 9, 9), {}, 1),
        (Tokens, (7, 5), {}, 1),
    ],
)  # fmt: skip
def test_a_file_is_proven(
    make: Callable[[], nn.Module], shape: tuple[int, ...], edits: dict[str, Any], thresholds: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    binary = frozen(make(), shape, **edits)
    certificate = fl.export(binary, tmp_path / "m.onnx", inputs=(torch.randn(40, *shape),))
    assert certificate.by_integers == thresholds
    assert {proof.products for proof in certificate.operations} == {"equal"}
    assert read_certificate(tmp_path / "m.onnx") == certificate
    nodes = [node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type.endswith("At")]
    assert len(nodes) == thresholds
    for node in nodes:
        assert list(node.input[1:]) == [f"{node.name}_thresholds", f"{node.name}_high"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fl.Graph]:
    torch.manual_seed(0)
    binary = frozen(chain(layers=2), (3, 8, 8))
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    fl.export(binary, path)
    return path, binary


def raise_a_threshold(model: onnx.ModelProto) -> None:
    change(model, "6.activation_thresholds", 1.0)


def lower_a_threshold(model: onnx.ModelProto) -> None:
    change(model, "6.activation_thresholds", -1.0)


def turn_a_channel(model: onnx.ModelProto) -> None:
    held = next(tensor for tensor in model.graph.initializer if tensor.name == "6.activation_high")
    high = numpy_helper.to_array(held).copy()
    high[3] *= -1
    held.CopyFrom(numpy_helper.from_array(high, held.name))


def change(model: onnx.ModelProto, name: str, by: float) -> None:
    held = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(held).copy()
    values[3] += np.float32(by)
    held.CopyFrom(numpy_helper.from_array(values, name))


@pytest.mark.parametrize("edit", [raise_a_threshold, lower_a_threshold, turn_a_channel])
def test_the_thresholds_of_a_file_are_proven(
    edit: Callable[[onnx.ModelProto], None], exported: tuple[Path, fl.Graph], tmp_path: Path
) -> None:
    model = onnx.load(exported[0])
    edit(model)
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(DriftError, match=r"the thresholds of 6\.activation are not the graph's"):
        fl.verify(tmp_path / "edited.onnx", exported[1])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fl.Graph]:
    """A file whose convolutions compare their sums themselves; some channels are turned around."""
    torch.manual_seed(0)
    binary = frozen(chain(layers=2, width=8), (3, 8, 8))
    path = tmp_path_factory.mktemp("compared") / "m.onnx"
    fl.export(binary, path, target="cpu-int8")
    high = next(t for t in onnx.load(path).graph.initializer if t.name == "6.activation_high")
    assert set(numpy_helper.to_array(high).ravel()) == {-1.0, 1.0}
    return path, binary


def flip_a_bit(model: onnx.ModelProto) -> None:
    held = next(tensor for tensor in model.graph.initializer if tensor.name == "3.weight_bits")
    bits = numpy_helper.to_array(held).copy()
    bits.flat[0] ^= 1
    held.CopyFrom(numpy_helper.from_array(bits, held.name))


def name_another_product(model: onnx.ModelProto) -> None:
    next(each for each in joined(model).attribute if each.name == "operation").s = b"6"


def name_another_site(model: onnx.ModelProto) -> None:
    next(each for each in joined(model).attribute if each.name == "site").s = b"another"


def reach_one_sum_more(model: onnx.ModelProto) -> None:
    """2 sum - (2 t - 3) in place of 2 sum - (2 t - 1): t - 1 is reached as well."""
    function = next(each for each in model.functions if each.name == "BinaryConvBinarizeAt")
    distance = next(node for node in function.node if node.output[0] == "distance")
    three = numpy_helper.from_array(np.array(3, np.float32))
    function.node.insert(0, onnx.helper.make_node("Constant", [], ["three"], value=three))
    distance.input[0] = "three"


def store_another_top(model: onnx.ModelProto) -> None:
    function = next(each for each in model.functions if each.name == "BinaryConvBinarizeAt")
    next(node for node in function.node if node.output[0] == "top").attribute[0].t.int32_data[:] = [130]


def joined(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == "3")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (raise_a_threshold, r"the thresholds of 6\.activation are not the graph's"),
        (lower_a_threshold, r"the thresholds of 6\.activation are not the graph's"),
        (turn_a_channel, r"the values of 6\.activation are not the graph's"),
        (flip_a_bit, r"the bits of 3\.weight are not in the file"),
        (flip_a_bit, r"the integers that 6\.activation compares are not the graph's"),
        (name_another_product, "3 is no binary operation in the file"),
        (name_another_site, "the graph has no value for binary:another"),
        (reach_one_sum_more, r"the integers that 6\.activation compares are not the graph's"),
        (store_another_top, r"6\.activation is not two-valued in the file"),
    ],
)
def test_operations_that_compare_their_sums_are_proven(
    edit: Callable[[onnx.ModelProto], None], message: str, compared: tuple[Path, fl.Graph], tmp_path: Path
) -> None:
    model = onnx.load(compared[0])
    edit(model)
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(DriftError, match=message):
        fl.verify(tmp_path / "edited.onnx", compared[1])


@pytest.mark.parametrize("unreached", [np.nan, np.inf, -np.inf, 2.0**20])
def test_no_threshold_of_another_kind_is_taken_for_the_graph_s(
    unreached: float, compared: tuple[Path, fl.Graph], tmp_path: Path
) -> None:
    model = onnx.load(compared[0])
    change(model, "6.activation_thresholds", unreached)
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(DriftError, match=r"the thresholds of 6\.activation are not the graph's"):
        fl.verify(tmp_path / "edited.onnx", compared[1])


def test_a_graph_that_compares_no_integers_is_not_that_of_a_file_that_does(tmp_path: Path) -> None:
    before = unfolded(chain(layers=2), (3, 8, 8))
    fl.export(fl.run(before, [FoldBatchNorm()]), tmp_path / "m.onnx", target="cpu-int8")
    with pytest.raises(DriftError, match=r"integers of 3 go to no thresholds of the graph's at 6\.activation"):
        fl.verify(tmp_path / "m.onnx", before)


def test_a_certificate_says_where_levels_were_compared(compared: tuple[Path, fl.Graph]) -> None:
    certificate = read_certificate(compared[0])
    assert [(each.operation, each.products) for each in certificate.operations] == [
        ("0", "levels"), ("3", "levels"), ("6", "equal"), ("11", "equal"),
    ]  # fmt: skip
    assert certificate.by_integers == 2
    assert "2 compare their integers inside, and give the graph's levels" in str(certificate)
    rows = [line.split() for line in contents(compared[0]).splitlines()]
    row = next(row for row in rows if row[:1] == ["3"])
    assert row[1:] == ["BinaryConvBinarizeAt", "binary", "8", "x", "8", "x", "3", "x", "3", "352"]
    assert rows[0][:7] == ["4", "operations", "of", "one-bit", "weights,", "884", "bytes;"]


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.5), (0.0, -0.5), (1e-30, 0.0), (-1e-30, 0.0), (-1.0, 0.0)])
def test_channels_whose_levels_hardly_depend_on_their_sums(scale: float, shift: float, tmp_path: Path) -> None:
    """Constant channels, tiny factors, and sums that fall on the threshold of a channel that is turned around."""
    torch.manual_seed(0)
    net = chain(layers=2, width=5)
    binary = frozen(net, (3, 8, 8), scale=scale, shift=shift)
    certificate = fl.export(binary, tmp_path / "m.onnx", inputs=(torch.randn(40, 3, 8, 8),), target="cpu-int8")
    assert [proof.products for proof in certificate.operations] == ["levels", "levels", "equal", "equal"]


def test_the_text_of_a_certificate(exported: tuple[Path, fl.Graph]) -> None:
    assert "2 of 8 sites by comparing integers with integer thresholds" in str(read_certificate(exported[0]))


def test_a_certificate_from_before(exported: tuple[Path, fl.Graph]) -> None:
    certificate = read_certificate(exported[0])
    text = certificate.to_json().replace('"by_integers": 2, ', "")
    assert asdict(Certificate.from_json(text)) == asdict(certificate) | {"by_integers": 0}


def test_thresholds_are_no_weights_in_the_contents(exported: tuple[Path, fl.Graph]) -> None:
    rows = [line.split() for line in contents(exported[0]).splitlines()]
    name, kind, size = next(row for row in rows if row[:1] == ["6.activation"])
    assert (name, kind) == ("6.activation", "BinarizeAt")
    assert size.isdigit()

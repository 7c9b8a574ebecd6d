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
from tests.models.integers import Flattened, Residual, Shortcut, Tokens, conv
from tests.models.small import ZERO_ONE, chain, spec


def frozen(model: nn.Module, shape: tuple[int, ...], **edits: object) -> fl.Graph:
    program = fl.compile(model, fl.edit_spec(spec(binarize__keep_float=[]), edits), (torch.randn(2, *shape),), 9)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
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

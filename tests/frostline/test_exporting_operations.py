"""Every kind of operation on the whole path: trained to the end, frozen, written and proven in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import frostline as fl
from frostline.compiler.contents import contents
from frostline.errors import DriftError
from tests.models.operations import Computed, Convolutions, Experts, Products
from tests.models.small import spec

TOTAL = 40


def exported(model: nn.Module, shape: tuple[int, ...], path: Path, **edits: Any) -> tuple[fl.Graph, fl.Certificate]:
    """Train the last steps of a plan, freeze, compare with the net that was trained, and export."""
    program = fl.compile(
        model,
        spec(**{"binarize__keep_float": ["stem.*", "head.*"], **edits}),
        (torch.randn(2, *shape),),
        total_steps=TOTAL,
    )
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.01)
    program.driver.resume(TOTAL - 1)
    for _ in range(2):
        program.net(torch.randn(8, *shape)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        program.advance()
    x = torch.randn(16, *shape)
    binary = program.freeze()
    assert torch.allclose(binary.module.eval()(x), program.net.eval()(x), atol=1e-5)
    return binary, fl.export(binary, path, inputs=(x,))


def kinds(certificate: fl.Certificate) -> dict[str, str]:
    return {proof.operation: proof.kind for proof in certificate.operations}


def test_convolutions(tmp_path: Path) -> None:
    binary, certificate = exported(Convolutions(), (3, 9, 9), tmp_path / "model.onnx")
    assert kinds(certificate) == {
        **dict.fromkeys(("depthwise", "grouped"), "BinaryNarrowConv"),
        **dict.fromkeys(("circular", "line", "volume"), "BinaryConv"),
    }
    assert {proof.products for proof in certificate.operations} == {"equal"}
    assert certificate.as_float == ("larger", "longer", "deeper")
    assert "  as float     3 operations of binary weights: larger, longer, deeper" in str(certificate).splitlines()
    assert certificate.sites == 16
    assert certificate.deviation < 1e-5
    assert {name for name in binary.module.state_dict() if name.endswith("weight")} == {"stem.weight", "head.weight"}

    model = onnx.load(tmp_path / "model.onnx")
    assert [node.op_type for node in model.graph.node].count("Round") == 3  # keeps factors out of their weights
    held = next(tensor for tensor in model.graph.initializer if tensor.name == "larger.weight_bits")
    held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) ^ 1, held.name))
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(DriftError, match=r"the bits of larger\.weight are not in the file\n.*the input of"):
        fl.verify(tmp_path / "edited.onnx", binary)


def test_the_weights_of_float_operations_are_listed_with_the_others(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(6, 4, 3, groups=2))
    exported(model, (6, 4, 4), tmp_path / "model.onnx", binarize__keep_float=[])
    row = next(
        line for line in contents(tmp_path / "model.onnx").splitlines() if " Unpack " in line and "weight_bits" in line
    )
    assert row.split() == ["0.weight_bits", "Unpack", *["6", "x", "2", "x", "3", "x", "3"], "16"]


@pytest.mark.parametrize("levels", [(-1, 1), (0, 1), None])
def test_depthwise_convolutions_take_one_bit_a_weight(levels: tuple[int, int] | None, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 40, 1), nn.ReLU(), nn.Conv2d(40, 40, 5, groups=40), nn.Conv2d(40, 4, 1))
    edits: dict[str, Any] = {"binarize__activations": levels is not None, "binarize__keep_float": ["first", "last"]}
    if levels:
        edits["overrides"] = [{"sites": "2.activation", "levels": list(levels)}]
    _, certificate = exported(model, (3, 8, 8), tmp_path / "model.onnx", **edits)
    kind = {(-1, 1): "BinaryNarrowConv", (0, 1): "ZeroOneNarrowConv", None: "BinaryWeightNarrowConv"}[levels]
    assert kinds(certificate) == {"2": kind}
    rows = [line.split() for line in contents(tmp_path / "model.onnx").splitlines()]
    row = next(row for row in rows if row[1:2] == [kind])
    assert row[:3] == ["2", kind, "binary" if levels else "float"]
    assert " ".join(row[3:]) == "40 x 1 x 5 x 5 128"  # bytes, of 1,000 bits


@pytest.mark.parametrize("activations", [True, False])
def test_products_of_matrices(activations: bool, tmp_path: Path) -> None:
    binary, certificate = exported(Products(), (4, 6), tmp_path / "model.onnx", binarize__activations=activations)
    names = ("w", "w@2", "w@3", "w@4", "heads", "w@5", "in_proj", "in_proj@2", "in_proj@3")
    assert kinds(certificate) == dict.fromkeys(names, "BinaryLinear" if activations else "BinaryWeightLinear")
    assert {proof.products for proof in certificate.operations} == {"equal" if activations else "close"}
    assert certificate.as_float == ("w@6", "w@7", "tokens", "tokens@2")
    assert certificate.deviation < 1e-5
    latent = {"w", "heads", "tokens", "in_proj_weight"}
    assert not latent & set(binary.module.state_dict())
    held = [name for name in binary.module.state_dict() if name.startswith("w_bits")]
    assert len(held) == 3  # w, its transpose, and its rows in another order


def test_computed_weights_and_a_learned_query(tmp_path: Path) -> None:
    binary, certificate = exported(Computed(), (3, 6, 6), tmp_path / "model.onnx")
    assert kinds(certificate) == {
        "standard": "BinaryConv", "norm": "BinaryConv", "norm@2": "BinaryConv", "matmul": "BinaryLinear",
        "ask": "BinaryLinear",
    }  # fmt: skip
    assert {proof.products for proof in certificate.operations} == {"equal"}
    assert certificate.as_float == ()
    left = set(binary.module.state_dict())
    assert not {"sums.0", "sums.1", "standard.weight", "norm.parametrizations.weight.original0"} & left
    assert {"standard.weight_bits", "norm.weight_bits", "ask.weight_bits", "query"} <= left


def test_a_mixture_of_experts_whose_scores_tie(tmp_path: Path) -> None:
    model = Experts()
    nn.init.zeros_(model.router.bias)
    _, certificate = exported(model, (6,), tmp_path / "model.onnx")
    assert kinds(certificate) == {"router": "BinaryLinear"}
    assert certificate.as_float == ("experts",)

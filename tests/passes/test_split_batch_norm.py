from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.passes import FREEZING, SplitBatchNorm
from tests.models.integers import BiReal, ByRow, Shortcut, conv
from tests.models.small import spec


def settled(model: nn.Module, *shape: int, **edits: object) -> fl.Graph:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var = torch.rand(norm.num_features) * 9
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    program = fl.compile(model, fl.edit_spec(spec(binarize__keep_float=[]), edits), (torch.randn(2, *shape),), 9)
    program.driver.resume(9)
    return program.graph.snapshot()


def norms(graph: fl.Graph) -> list[str]:
    """The BatchNorms that a graph calls."""
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    return [name for name in called if isinstance(graph.module.get_submodule(name), nn.BatchNorm1d | nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), (4, 6, 6)),
        (nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False, eps=0.25), (4, 6, 6)),
        (nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), (5,)),
    ],
)
def test_it_is_a_factor_and_a_sum_to_the_bit_in_the_runtime_too(
    layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d, shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = settled(nn.Sequential(layer, norm), *shape)
    binary = fl.run(graph, FREEZING)
    assert norms(binary) == []
    x = torch.randn(20, *shape)
    with torch.no_grad():
        integers = products(binary, x)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gamma = torch.ones(8) if norm.weight is None else norm.weight
        beta = torch.zeros(8) if norm.bias is None else norm.bias
        scale = gamma / torch.sqrt(norm.running_var + norm.eps)
        broadcast = (8, *(1 for _ in integers.shape[2:]))
        expected = integers * scale.reshape(broadcast) + (beta - norm.running_mean * scale).reshape(broadcast)
        assert torch.equal(binary.module.eval()(x), expected)
    torch.testing.assert_close(graph.module.eval()(x), expected)
    fl.export(binary, tmp_path / "m.onnx", inputs=(x,))
    session = fl.session(tmp_path / "m.onnx", provider="cpu", threads=1)
    (own,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.equal(torch.from_numpy(own), expected)


def products(binary: fl.Graph, x: Tensor) -> Tensor:
    """What the first operation of a graph gives."""
    twin = binary.copy()
    nodes = twin.module.graph
    (end,) = (node for node in nodes.nodes if node.op == "output")
    end.args = (next(node for node in nodes.nodes if node.target in (torch.conv2d, nn.functional.linear)),)
    twin.module.recompile()
    return twin.module.eval()(x)


def test_a_block_with_a_shortcut(tmp_path: Path) -> None:
    binary = fl.run(settled(BiReal(), 4, 8, 8), FREEZING)
    assert norms(binary) == []
    assert {"norms.0_scale", "norms.2_shift"} <= set(binary.module.state_dict())
    certificate = fl.export(binary, tmp_path / "m.onnx", inputs=(torch.randn(40, 4, 8, 8),))
    assert certificate.by_integers == 0
    assert certificate.flips == 0


def test_where_no_integers_lie_before_it_stays() -> None:
    floats = settled(conv(nn.BatchNorm2d(8)), 4, 9, 9, **{"binarize.keep_float": ["0.activation"]})
    assert norms(fl.run(floats, FREEZING)) == ["1"]
    assert norms(fl.run(settled(conv(ByRow()), 4, 9, 9), FREEZING)) == ["1.norm"]
    of_the_batch = settled(conv(nn.BatchNorm2d(8, track_running_stats=False)), 4, 9, 9)
    assert norms(fl.run(of_the_batch, FREEZING)) == ["1"]


def test_it_is_split_behind_thresholds_where_a_shortcut_reads_it() -> None:
    binary = fl.run(settled(Shortcut(), 4, 6, 6), FREEZING)
    assert norms(binary) == []
    assert {"one_scale", "two_scale", "b.activation_thresholds"} <= set(binary.module.state_dict())


def test_one_behind_another() -> None:
    graph = settled(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8)), 5)
    assert norms(fl.run(graph, FREEZING)) == []
    without = fl.run(graph, [one for one in FREEZING if not isinstance(one, SplitBatchNorm)])
    x = torch.randn(9, 5)
    torch.testing.assert_close(fl.run(graph, FREEZING).module.eval()(x), without.module.eval()(x))

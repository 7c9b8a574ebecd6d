"""FoldBatchNorm: every operation reads exactly what it read before, whatever stood between the integers and it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import frostline as fl
from frostline.compiler.graph import facts
from frostline.compiler.invariants import is_binarize_at
from frostline.compiler.masks import binarize, binarize_at
from frostline.compiler.products import products_of
from frostline.passes import FREEZING, FoldBatchNorm, SplitBatchNorm
from tests.models.integers import (
    ByPixel,
    ByRow,
    Flattened,
    Kept,
    Residual,
    Shortcut,
    Squared,
    Tokens,
    Written,
    conv,
)  # fmt: skip
from tests.models.small import ZERO_ONE, spec

UNFOLDED = tuple(one for one in FREEZING if not isinstance(one, FoldBatchNorm | SplitBatchNorm))
ALL = spec(binarize__keep_float=[])


def unfolded(model: nn.Module, shape: tuple[int, ...], **edits: object) -> fl.Graph:
    """A frozen graph, all of it binary, with everything that FoldBatchNorm folds."""
    program = fl.compile(model, fl.edit_spec(ALL, edits), (torch.randn(2, *shape),), total_steps=9)
    program.driver.resume(9)
    graph = fl.run(program.graph.snapshot(), UNFOLDED)
    graph.module.eval()
    return graph


class _Reads(fx.Interpreter):
    """Runs a graph, and keeps what its products read and what it returns."""

    def __init__(self, graph: fl.Graph) -> None:
        super().__init__(graph.module)
        self.activations = {product.node: product.activation for product in products_of(graph)}
        self.kept: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.activations:
            self.kept[str(facts(n).name)] = self.env[self.activations[n]].clone()
        value = super().run_node(n)
        if n.op == "output":
            self.kept["output"] = value.clone()
        return value


def reads(graph: fl.Graph, x: Tensor) -> dict[str, Tensor]:
    recorder = _Reads(graph)
    with torch.no_grad():
        recorder.run(x.clone())
    return recorder.kept


def folded(graph: fl.Graph) -> list[str]:
    """The sites that are decided by integer thresholds."""
    return [str(facts(node).name) for node in graph.nodes if is_binarize_at(node)]


def same(before: fl.Graph, x: Tensor) -> fl.Graph:
    """The graph after FoldBatchNorm, which was seen to give exactly the same."""
    after = fl.run(before, [FoldBatchNorm()])
    one, other = reads(before, x), reads(after, x)
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert torch.equal(other[name], values), name
    return after


FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "plain": (lambda: conv(nn.BatchNorm2d(8)), (4, 9, 9), ["2.activation"]),
    "hardtanh": (lambda: conv(nn.BatchNorm2d(8), nn.Hardtanh(inplace=True), bias=True), (4, 9, 9), ["3.activation"]),
    "strided": (lambda: conv(nn.BatchNorm2d(8), kernel=2, stride=2, padding=0), (4, 9, 9), ["2.activation"]),
    "activation first": (lambda: conv(nn.LeakyReLU(0.1), nn.BatchNorm2d(8)), (4, 9, 9), ["3.activation"]),
    "by channel": (lambda: conv(nn.PReLU(8), nn.BatchNorm2d(8), nn.Tanh()), (4, 9, 9), ["4.activation"]),
    "not affine": (lambda: conv(nn.BatchNorm2d(8, affine=False), nn.Dropout(0.5)), (4, 9, 9), ["3.activation"]),
    "bias": (lambda: conv(nn.Identity(), bias=True), (4, 9, 9), ["2.activation"]),
    "pooled": (lambda: conv(nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.ReLU()), (4, 9, 9), ["4.activation"]),
    "pooled after": (
        lambda: conv(nn.BatchNorm2d(8), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Hardtanh()),
        (4, 9, 9), ["4.activation"],
    ),
    "features": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Hardtanh(), nn.Linear(8, 2)),
        (5,), ["3.activation"],
    ),
    "tokens": (Tokens, (7, 5), ["b.activation"]),
    "residual": (Residual, (8, 6, 6), ["c.activation", "head.activation"]),
    "shortcut": (Shortcut, (4, 6, 6), ["b.activation"]),
}  # fmt: skip


@cache
def graph_of(name: str) -> fl.Graph:
    make, shape, _ = FOLDED[name]
    torch.manual_seed(0)
    return unfolded(make(), shape)


def norms(graph: fl.Graph) -> list[Any]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [one for one in graph.module.modules() if isinstance(one, kinds)]


GAMMA = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30]), st.floats(-3, 3, width=32))
MEAN = st.one_of(st.integers(-12, 12).map(float), st.floats(-20, 20, width=32))
BETA = st.one_of(st.just(0.0), st.integers(-3, 3).map(float), st.floats(-3, 3, width=32))
VARIANCE = st.one_of(st.sampled_from([0.0, 1.0, 4.0, 1e-30, 1e10]), st.floats(0, 50, width=32))


@st.composite
def statistics(draw: st.DrawFn) -> dict[str, Tensor]:
    drawn = {"weight": GAMMA, "bias": BETA, "running_mean": MEAN, "running_var": VARIANCE}
    return {name: torch.tensor(draw(st.lists(kind, min_size=8, max_size=8))) for name, kind in drawn.items()}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(FOLDED)), statistics(), st.integers(0, 2**31))
def test_every_operation_reads_the_same(name: str, values: dict[str, Tensor], seed: int) -> None:
    before = graph_of(name).snapshot()
    for norm in norms(before):
        for key, value in values.items():
            if getattr(norm, key) is not None:
                getattr(norm, key).data.copy_(value[: norm.num_features])
    x = torch.randn(3, *FOLDED[name][1], generator=torch.Generator().manual_seed(seed))
    assert folded(same(before, x)) == FOLDED[name][2]


@settings(max_examples=30, deadline=None)
@given(statistics())
def test_thresholds_are_those_of_every_integer(values: dict[str, Tensor]) -> None:
    """Also on a dense value of another shape: torch rounds BatchNorm alike in all of them."""
    before = graph_of("plain").snapshot()
    (norm,) = norms(before)
    for key, value in values.items():
        getattr(norm, key).data.copy_(value)
    after = fl.run(before, [FoldBatchNorm()]).module
    thresholds, high = after.get_buffer("2.activation_thresholds"), after.get_buffer("2.activation_high")
    assert thresholds.shape == high.shape == (8, 1, 1)
    integers = torch.arange(-36.0, 37.0).reshape(-1, 1, 1, 1).expand(-1, 8, 5, 3).contiguous()
    for dense in (integers, integers.to(memory_format=torch.channels_last)):
        assert torch.equal(binarize(norm(dense)), binarize_at(dense, thresholds, high))
    assert ((thresholds >= -36) & (thresholds <= 37)).all()
    assert (high[values["weight"] > 0] == 1).all()
    assert torch.equal(thresholds, thresholds.round())


def test_a_falling_channel_and_constant_ones() -> None:
    before = graph_of("plain").snapshot()
    (norm,) = norms(before)
    norm.weight.data.copy_(torch.tensor([1.0, -1, 0, 0, 1, -1, 1, 1]))
    norm.bias.data.copy_(torch.tensor([0.0, 0, 1, -1, 99, 99, 0, 0]))
    norm.running_mean.copy_(torch.tensor([3.0, 3, 0, 0, 0, 0, 2.5, -0.5]))
    after = fl.run(before, [FoldBatchNorm()]).module
    assert after.get_buffer("2.activation_thresholds").flatten().tolist() == [3, 4, -36, 37, -36, -36, 3, 0]
    assert after.get_buffer("2.activation_high").flatten().tolist() == [1, -1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["pooled", "pooled after", "hardtanh"])
def test_levels_of_zero_and_one(name: str) -> None:
    make, shape, sites = FOLDED[name]
    before = unfolded(make(), shape, overrides=ZERO_ONE)
    for norm in norms(before):
        norm.weight.data.normal_()
    after = same(before, torch.randn(5, *shape))
    assert folded(after) == sites
    assert set(after.module.get_buffer(f"{sites[0]}_high").flatten().tolist()) == {0.0, 1.0}
    assert f"%{'_'.join(['', *sites[0].split('.')])}_high, levels=(0, 1))" in after.show()


def test_binarize_moves_before_pooling_and_flattening() -> None:
    before = unfolded(Flattened(), (4, 6, 6))
    for norm in norms(before):
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    after = same(before, torch.randn(9, 4, 6, 6))
    assert folded(after) == ["head.activation"]
    called = [str(getattr(node.target, "__name__", node.target)) for node in after.nodes]
    assert [name for name in called if name in ("binarize_at", "max_pool2d", "flatten")] == [
        "binarize_at", "max_pool2d", "flatten",
    ]  # fmt: skip
    assert "relu_" not in called


def test_a_shortcut_keeps_the_float_path() -> None:
    after = fl.run(unfolded(Shortcut(), (4, 6, 6)), [FoldBatchNorm()])
    (at,) = (node for node in after.nodes if is_binarize_at(node))
    dot = at.args[0]
    assert isinstance(dot, fx.Node)
    assert {str(user.target) for user in dot.users if user is not at} == {"one"}


def test_what_nobody_reads_any_more_is_gone() -> None:
    after = fl.run(graph_of("hardtanh").snapshot(), [FoldBatchNorm()])
    assert {node.op for node in after.nodes} == {"placeholder", "get_attr", "call_function", "output"}
    assert "0.bias" not in {node.target for node in after.nodes}


def test_values_that_are_written_into() -> None:
    before = unfolded(Written(), (4, 6, 6))
    for norm in norms(before):
        norm.bias.data.normal_()
        norm.running_mean.normal_()
    after = same(before, torch.randn(5, 4, 6, 6))
    assert folded(after) == ["b.activation", "d.activation"]


@pytest.mark.parametrize(
    "between",
    [
        (nn.BatchNorm2d(8), nn.AvgPool2d(2)), (nn.BatchNorm2d(8, track_running_stats=False),), (Squared(),),
        (ByPixel(),), (ByRow(),), (nn.BatchNorm2d(8), nn.MaxPool2d(2, dilation=3)), (nn.GroupNorm(2, 8),), (Kept(8),),
        (nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.LeakyReLU(0.5)), (nn.Softmax(1),), (), (nn.MaxPool2d(2),),
    ],
    ids=lambda modules: "-".join(type(one).__name__ for one in modules),
)  # fmt: skip
def test_what_cannot_be_folded_is_left_alone(between: tuple[nn.Module, ...]) -> None:
    torch.manual_seed(0)
    before = unfolded(conv(*between), (4, 9, 9))
    assert folded(fl.run(before, [FoldBatchNorm()])) == []
    same(before, torch.randn(3, 4, 9, 9))


def test_what_is_no_number_is_left_alone() -> None:
    before = graph_of("plain").snapshot()
    norms(before)[0].running_var[3] = torch.nan
    assert folded(fl.run(before, [FoldBatchNorm()])) == []


def test_operations_of_floats_are_no_integers() -> None:
    before = unfolded(conv(nn.BatchNorm2d(8)), (4, 9, 9), **{"binarize.keep_float": ["0.activation"]})
    assert folded(fl.run(before, [FoldBatchNorm()])) == []


def test_the_search_is_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fl.run(graph_of("plain").snapshot(), [FoldBatchNorm()]).module
    monkeypatch.setattr("frostline.passes.fold_batch_norm._AT_ONCE", 40)
    parts = fl.run(graph_of("plain").snapshot(), [FoldBatchNorm()]).module
    for name in ("2.activation_thresholds", "2.activation_high"):
        assert torch.equal(whole.get_buffer(name), parts.get_buffer(name))


class Branched(nn.Module):
    """Python that branches on a value, behind what is captured in regions."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = conv(nn.BatchNorm2d(8), nn.Hardtanh()), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x).mean((2, 3))
        return self.head(-x if float(x.sum()) > 0 else x)


def test_each_region_is_folded() -> None:
    before = unfolded(Branched(), (4, 9, 9))
    after = fl.run(before, [FoldBatchNorm()])
    assert [folded(part) for part in after.parts()] == [["block.3.activation"], []]
    x = torch.randn(5, 4, 9, 9)
    assert torch.equal(after.module.eval()(x), before.module(x))

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.graph import Graph
from frostline.compiler.net import Net
from tests.models.small import Branching


class Loop(nn.Module):
    """A loop that ends when the values say so, around two blocks, one of which is called at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardtanh())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        self.unused = nn.Linear(2, 2)
        self.block.note = "kept"  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        rounds = 0
        while float(x.abs().mean()) < 100 and rounds < 2:
            x = self.block(x)
            x = x[..., ::2, ::2]
            rounds += 1
        assert self.block.note == "kept"
        return self.head(x)


def captured(model: nn.Module, *inputs: Tensor) -> Graph:
    graph = fl.capture(model, inputs)
    assert graph.captured.startswith("regions ("), graph.captured
    return graph


def test_the_largest_submodules_are_captured_and_python_runs_between_them() -> None:
    model = Loop()
    graph = captured(model, torch.randn(2, 3, 8, 8))
    assert list(graph.regions) == ["stem", "block", "head"]
    assert graph.captured == "regions (stem, block, head), proven in eval and train mode at batch 1, 2 and 3"
    x = torch.randn(5, 3, 8, 8)
    assert torch.equal(graph.module.eval()(x), model.eval()(x))


def test_names_and_parameters_are_the_model_s() -> None:
    model = Loop()
    graph = captured(model, torch.randn(2, 3, 8, 8))
    for net in (graph.module, graph.copy().module, copy.deepcopy(graph.module)):
        assert list(net.state_dict()) == list(model.state_dict())
        assert isinstance(net.get_submodule("block"), Net)
    assert all(one is other for one, other in zip(graph.module.parameters(), model.parameters(), strict=True))
    assert not any(isinstance(module, Net) for module in model.modules())


def test_a_branch_on_a_value_takes_both_ways() -> None:
    model = Branching().eval()
    net = captured(model, torch.randn(2, 4)).module
    for x in torch.randn(20, 3, 4):
        assert torch.equal(net(x), model(x))


class LayerDrop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or random.random() < 0.5:  # noqa: S311
                x = torch.tanh(block(x))
        return x


def test_python_s_random_numbers_stay_python_s() -> None:
    graph = captured(LayerDrop(), torch.randn(2, 4))
    assert list(graph.regions) == ["blocks.0", "blocks.1", "blocks.2"]
    outcomes = {graph.module.train()(torch.ones(1, 4)).sum().item() for _ in range(40)}
    assert len(outcomes) > 2


@pytest.mark.parametrize("mode", [True, False])
def test_modes_reach_the_regions(mode: bool) -> None:
    net = captured(Loop(), torch.randn(2, 3, 8, 8)).module.train(mode)
    assert all(module.training is mode for module in net.modules())


class Scattered(nn.Module):
    """Submodules that are registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.late = nn.Sequential(nn.Linear(6, 6), nn.Hardtanh(), nn.Linear(6, 6))
        self.early = nn.Sequential(nn.Linear(6, 6), nn.Hardtanh(), nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x)
        if float(x.abs().mean()) > 1e9:
            x = -x
        return self.head(self.late(x))


def test_regions_stand_in_the_order_in_which_they_run() -> None:
    graph = captured(Scattered(), torch.randn(4, 6))
    assert list(graph.regions) == ["early", "late", "head"]
    weights = [site for site in fl.sites(graph) if site.kind == "weight"]
    assert [(site.name, site.depth) for site in weights] == [
        ("early.0.weight", 1), ("early.2.weight", 2), ("late.0.weight", 3), ("late.2.weight", 4), ("head.weight", 5),
    ]  # fmt: skip
    assert {site.name: site.operands[0].roles for site in weights if site.operands[0].roles} == {
        "early.0.weight": ("first",), "head.weight": ("last",),
    }  # fmt: skip
    registered = {site.name: site.operands[0].depths.module for site in weights}
    assert registered == {
        "head.weight": 1, "late.0.weight": 2, "late.2.weight": 3, "early.0.weight": 4, "early.2.weight": 5,
    }  # fmt: skip

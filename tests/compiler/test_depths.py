"""The depths of well-known networks, captured on the meta device, without memory."""

from __future__ import annotations

import torch
from torch import nn

import frostline as fl
from frostline.compiler.sites import Site
from tests.models.bert import Bert
from tests.models.mobilenet import MobileNetV2
from tests.models.resnet import resnet18, resnet50


def weights(model: nn.Module, shape: tuple[int, ...] = (2, 3, 64, 64)) -> list[Site]:
    x = torch.zeros(shape, device="meta")
    return [site for site in fl.sites(fl.capture(model.to("meta"), (x,))) if site.kind == "weight"]


def levels(found: list[Site]) -> int:
    return len({site.depth for site in found})


def inner(found: list[Site]) -> list[Site]:
    return [site for site in found if not any(operand.roles for operand in site.operands)]


def test_resnet() -> None:
    for make, sites, depth in ((resnet18, 21, 18), (resnet50, 54, 50)):
        found = weights(make())
        assert (len(found), levels(found), levels(inner(found))) == (sites, depth, depth - 2)


def test_mobilenet_v2() -> None:
    found = weights(MobileNetV2())
    assert levels(found) == 53
    assert levels([site for site in inner(found) if "depthwise" not in site.name]) == 34


def test_bert_base() -> None:
    tokens = torch.zeros(2, 16, dtype=torch.long, device="meta")
    graph = fl.capture(Bert().to("meta"), (tokens, tokens))
    found = [site for site in fl.sites(graph) if site.kind == "weight"]
    assert (len(found), levels(found)) == (74, 50)
    first = [site.name for site in found if site.depth == 1]
    assert first == [f"layers.0.attention.{name}.weight" for name in ("query", "key", "value")]
    roles = {role for site in found for operand in site.operands for role in operand.roles}
    assert roles == {"last"}  # nothing but tokens goes in


def test_the_three_rules() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.short = nn.Linear(4, 4), nn.Linear(4, 4)
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.late(self.b(self.a(x)) + self.short(x))

    found = {
        site.name: [site.operands[0].depths.by(rule) for rule in ("asap", "alap", "module")]
        for site in weights(Branches(), (2, 4))
    }
    assert found == {
        "a.weight": [1, 1, 3], "short.weight": [1, 2, 2], "b.weight": [2, 2, 4], "late.weight": [3, 3, 1],
    }  # fmt: skip

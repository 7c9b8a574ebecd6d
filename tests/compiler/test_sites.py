from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

import frostline as fl
from frostline.errors import CaptureError
from tests.models.resnet import resnet18, resnet34, resnet50
from tests.models.small import Attention, Embedded, Tied, chain


def described(model: nn.Module, *inputs: torch.Tensor) -> list[tuple[int, str]]:
    return [(site.depth, site.name) for site in fl.sites(fl.capture(model, inputs))]


def test_a_chain_has_a_depth_for_each_operation() -> None:
    found = described(chain(layers=1), torch.randn(2, 3, 8, 8))
    assert found == [
        (1, "0.activation"),
        (1, "0.weight"),
        (2, "3.activation"),
        (2, "3.weight"),
        (3, "8.activation"),
        (3, "8.weight"),
    ]


def test_operations_that_read_one_activation_share_a_site() -> None:
    sites = {site.name: site for site in fl.sites(fl.capture(Attention(), (torch.randn(2, 3, 8),)))}
    shared = sites["q.activation"]
    assert [operand.name for operand in shared.operands] == ["q.activation", "k.activation", "v.activation"]
    assert shared.shape == (3, 8)
    assert (shared.depth, sites["out.weight"].depth, sites["head.weight"].depth) == (2, 3, 4)


def test_a_weight_used_twice_is_one_site_at_the_depth_of_its_first_use() -> None:
    sites = {site.name: site for site in fl.sites(fl.capture(Tied(), (torch.randn(2, 4),)))}
    assert [operand.operation for operand in sites["a.weight"].operands] == ["a", "b"]
    assert [operand.operation for operand in sites["twice.weight"].operands] == ["twice", "twice@2"]
    assert sites["a.weight"].depth == 2
    assert {"a.activation", "b.activation", "twice.activation", "twice@2.activation"} <= sites.keys()
    assert "b.weight" not in sites


@pytest.mark.parametrize(("make", "levels", "sites"), [(resnet18, 18, 21), (resnet34, 34, 37), (resnet50, 50, 54)])
def test_residual_networks_have_the_depth_of_their_name(
    make: Callable[[int], nn.Module], levels: int, sites: int
) -> None:
    found = fl.sites(fl.capture(make(4).to("meta"), (torch.randn(2, 3, 32, 32, device="meta"),)))
    weights = [site for site in found if site.kind == "weight"]
    assert max(site.depth for site in weights) == levels
    assert len(weights) == sites
    plain = [site for site in weights if not site.operands[0].roles]
    assert len({site.depth for site in plain}) == levels - 2
    assert len(plain) == levels - 2


@pytest.mark.parametrize("make", [resnet18, resnet50])
def test_a_projection_waits_for_the_branch_beside_it_when_depth_is_as_late_as_possible(
    make: Callable[[int], nn.Module],
) -> None:
    found = fl.sites(fl.capture(make(4).to("meta"), (torch.randn(2, 3, 32, 32, device="meta"),)))
    depths = {site.name: site.operands[0].depths for site in found if site.kind == "weight"}
    late = {name for name, depth in depths.items() if depth.alap > depth.asap}
    assert late == {name for name in depths if "downsample" in name}
    last = "conv2" if make is resnet18 else "conv3"
    for name in late:
        assert depths[name].alap == depths[name.replace("downsample.0", last)].alap
    by_module = [depth.module for depth in depths.values()]
    assert sorted(by_module) == list(range(1, len(depths) + 1))
    assert depths["fc.weight"].module == len(depths)
    assert depths["layer2.0.downsample.0.weight"].module == depths[f"layer2.0.{last}.weight"].module + 1


def test_operations_of_one_module_share_its_place() -> None:
    sites = {site.name: site for site in fl.sites(fl.capture(Tied(), (torch.randn(2, 4),)))}
    assert [operand.depths.module for operand in sites["twice.weight"].operands] == [4, 4]
    assert [operand.depths.module for operand in sites["a.weight"].operands] == [2, 3]
    assert [operand.depths.asap for operand in sites["twice.weight"].operands] == [4, 5]


class Bare(nn.Module):
    """Operations of a module's own, between those of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(functional.linear(torch.tanh(self.first(x)), self.weight)))


def test_a_module_stands_before_its_children() -> None:
    sites = fl.sites(fl.capture(Bare(), (torch.randn(2, 4),)))
    places = {site.name: site.operands[0].depths.module for site in sites if site.kind == "weight"}
    assert places == {"first.weight": 2, "weight": 1, "last.weight": 3}


def test_a_site_knows_its_axis_of_channels() -> None:
    sites = {site.name: site for site in fl.sites(fl.capture(chain(), (torch.randn(2, 3, 8, 8),)))}
    assert {sites[name].channel for name in ("3.activation", "3.weight", "17.activation", "17.weight")} == {0}
    tokens = {site.name: site.channel for site in fl.sites(fl.capture(Attention(), (torch.randn(2, 3, 8),)))}
    assert (tokens["q.activation"], tokens["q.weight"]) == (1, 0)


def test_roles_come_from_the_graph() -> None:
    roles = {
        operand.operation: operand.roles
        for site in fl.sites(fl.capture(resnet18(4), (torch.randn(2, 3, 16, 16),)))
        for operand in site.operands
        if operand.roles
    }
    assert roles == {
        "conv1": ("first",),
        "layer2.0.downsample.0": ("downsample",),
        "layer3.0.downsample.0": ("downsample",),
        "layer4.0.downsample.0": ("downsample",),
        "fc": ("last",),
    }


def test_a_model_fed_by_integers_has_no_first() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Hardtanh(), nn.Linear(4, 4))
    sites = fl.sites(fl.capture(model, (torch.tensor([[1, 2], [3, 4]]),)))
    assert [operand.roles for site in sites for operand in site.operands] == [(), (), ("last",), ("last",)]


def test_a_site_knows_the_user_s_line() -> None:
    site = next(s for s in fl.sites(fl.capture(Attention(), (torch.randn(2, 3, 8),))) if s.name == "q.weight")
    assert site.where is not None
    assert site.where.startswith("tests/models/small.py:")


def test_the_capture_s_user_model_without_sites_has_none() -> None:
    assert fl.sites(fl.capture(nn.Sequential(nn.BatchNorm1d(3)), (torch.randn(2, 3),))) == ()


class Inverted(nn.Module):
    """MobileNetV2's blocks: an identity shortcut around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4, 8, 1), nn.Hardtanh(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)
            )
            for _ in range(2)
        )
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks[0](self.stem(x))
        x = x + self.blocks[1](x)
        return self.head(x.mean((2, 3)))


class Sequence(nn.Module):
    """Tokens first, then the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)).transpose(0, 1))))


class FromDictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.b(torch.tanh(self.a(inputs["x"])))


def roles(model: nn.Module, *inputs: object) -> dict[str, tuple[str, ...]]:
    found = fl.sites(fl.capture(model, inputs))
    return {o.operation: o.roles for site in found for o in site.operands if o.roles}


def test_the_projection_of_an_inverted_residual_is_no_downsample() -> None:
    assert roles(Inverted(), torch.randn(2, 3, 8, 8)) == {"stem": ("first",), "head": ("last",)}


def test_first_is_found_behind_a_dictionary_of_inputs() -> None:
    assert roles(FromDictionary(), {"x": torch.randn(2, 4)}) == {"a": ("first",), "b": ("last",)}


def test_the_batch_axis_is_no_part_of_a_mask_wherever_it_stands() -> None:
    sites = {site.name: site.shape for site in fl.sites(fl.capture(Sequence(), (torch.randn(8, 5, 4),)))}
    assert sites["a.activation"] == (5, 4)
    assert sites["b.activation"] == (5, 1, 4)


def test_a_tied_weight_is_called_by_the_name_of_each_user() -> None:
    sites = fl.sites(fl.capture(Embedded(), (torch.tensor([[1, 2], [3, 4]]),)))
    assert [site.name for site in sites if site.kind == "weight"] == ["mix.weight", "head.weight"]


def test_weights_of_another_type_are_refused() -> None:
    graph = fl.capture(nn.Sequential(nn.Linear(4, 4)).double(), (torch.randn(2, 4).double(),))
    with pytest.raises(CaptureError, match=r"0\.weight is torch\.float64\n    -> use model\.float\(\)"):
        fl.sites(graph)

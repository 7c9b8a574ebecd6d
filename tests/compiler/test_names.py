"""Sites have the names that users know, whatever stands between a parameter and its operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import frostline as fl
from tests.models.small import Attention


def named(model: nn.Module, *inputs: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The weights of a model, with the shapes of their masks."""
    found = fl.sites(fl.capture(model, inputs or (torch.randn(2, 4),)))
    return [(site.name, site.shape) for site in found if site.kind == "weight"]


def test_a_normalised_weight_is_called_what_it_was_before() -> None:
    model = nn.Sequential(nn.Linear(4, 6), parametrizations.weight_norm(nn.Linear(6, 5)))
    assert named(model) == [("0.weight", (6, 4)), ("1.weight", (5, 6))]


def test_a_normalised_weight_that_is_used_twice_is_one_site() -> None:
    once = parametrizations.weight_norm(nn.Linear(4, 4))
    found = fl.sites(fl.capture(nn.Sequential(once, nn.Tanh(), once), (torch.randn(2, 4),)))
    (site,) = (site for site in found if site.kind == "weight")
    assert (site.name, [operand.operation for operand in site.operands]) == ("0.weight", ["0", "0@2"])


class Standardised(nn.Conv2d):
    """Weight standardisation, as networks without batch norm have it."""

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias)


def test_a_standardised_weight_is_called_after_its_parameter() -> None:
    model = nn.Sequential(nn.Sequential(Standardised(3, 4, 3)), nn.Conv2d(4, 2, 1))
    assert named(model, torch.randn(2, 3, 8, 8)) == [("0.0.weight", (4, 3, 3, 3)), ("1.weight", (2, 4, 1, 1))]


class Hooked(nn.Module):
    """The parameters that the hook of the older weight normalisation leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_g, self.weight_v = nn.Parameter(torch.ones(4, 1)), nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


def test_the_older_normalisation_too() -> None:
    assert named(nn.Sequential(Hooked(), Hooked())) == [("0.weight", (4, 4)), ("1.weight", (4, 4))]


class Mixed(nn.Module):
    """Views of one parameter, sums of two, and names that are no `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(12, 4))
        self.a, self.b = (nn.Parameter(torch.randn(4, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.in_proj_weight.chunk(3)
        q, k, v = (functional.linear(x, parts[index]) for index in range(3))
        return (q + k + v) @ (self.a + self.b) @ self.a @ (self.a + self.b).t()


def test_views_share_the_parameter_s_site_and_sums_are_called_after_their_module() -> None:
    found = fl.sites(fl.capture(nn.Sequential(Mixed()), (torch.randn(2, 4),)))
    operands = {site.name: [o.operation for o in site.operands] for site in found if site.kind == "weight"}
    assert operands == {
        "0.in_proj_weight": ["0.in_proj", "0.in_proj@2", "0.in_proj@3"],
        "0.weight": ["0", "0@2"],
        "0.a": ["0.a"],
    }
    assert {site.name for site in found if site.kind == "activation"} >= {"0.in_proj.activation", "0.a.activation"}


def test_names_do_not_depend_on_the_spelling_of_a_call() -> None:
    class Spelled(Attention):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x @ self.embed.weight.t())

    names = [name for name, _ in named(Spelled(), torch.randn(2, 3, 8))]
    assert names == ["embed.weight", "q.weight", "k.weight", "v.weight", "out.weight", "head.weight"]

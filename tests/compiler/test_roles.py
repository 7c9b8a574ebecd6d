"""Depths and sites where tensors are written in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import frostline as fl


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))


def depths(model: nn.Module) -> dict[str, int]:
    return {site.name: site.depth for site in fl.sites(fl.capture(model, (torch.randn(2, 4),)))}


def test_what_is_written_into_a_tensor_is_seen_by_its_later_readers() -> None:
    class Model(Layers):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            y[:, :4].copy_(self.b(torch.tanh(self.a(x))))
            return self.c(y)

    assert depths(Model())["c.weight"] == 3


def test_what_is_written_into_a_view_is_seen_through_the_tensor() -> None:
    class Model(Layers):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            y.t().add_(self.a(x).t())
            return self.c(y)

    assert depths(Model())["c.weight"] == 2


def test_what_is_written_is_not_seen_by_earlier_readers() -> None:
    class Model(Layers):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            early = self.b(y)
            y += self.a(x)
            return self.c(y) + early

    model = Model()
    model.b.requires_grad_(False)  # autograd would need what it read
    found = depths(model)
    assert (found["b.weight"], found["c.weight"]) == (1, 2)


def test_readers_before_and_after_a_write_share_no_activation() -> None:
    class Model(Layers):
        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            before = self.b(y)
            y.neg_()
            return before + self.c(y)

    model = Model()
    model.b.requires_grad_(False)
    names = depths(model)
    assert {"b.activation", "c.activation"} <= names.keys()


def test_an_operation_that_writes_only_in_place_has_something_downstream() -> None:
    class Model(Layers):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            y.copy_(self.a(x))
            return self.b(y)

    sites = fl.sites(fl.capture(Model(), (torch.randn(2, 4),)))
    roles = {operand.operation: operand.roles for site in sites for operand in site.operands}
    assert roles == {"a": ("first",), "b": ("last",)}

"""Which operand is the weight: what is made of parameters and of no input."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.compiler.products import products_of
from frostline.compiler.rearrangements import root_of


class Operands(nn.Module):
    """Products of inputs, parameters, constants and sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))
        self.v = nn.Parameter(torch.randn(4, 4))
        self.vector = nn.Parameter(torch.randn(4))
        self.query = nn.Parameter(torch.randn(3, 4))
        self.table = nn.Embedding(4, 4)
        self.register_buffer("places", torch.arange(4))
        self.places: Tensor


def weights(model: nn.Module, *inputs: Tensor) -> list[tuple[str, str]]:
    """For each product, what is called and what its weight starts from."""
    graph = fl.capture(model, inputs or (torch.randn(2, 4),))
    return [(p.operation.name, str(root_of(p.weight).target)) for p in products_of(graph)]


def test_the_parameter_is_the_weight_on_either_side() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return self.w @ torch.mm(x, self.v).t()

    assert weights(Model()) == [("mm", "v"), ("matmul", "w")]


def test_views_of_a_parameter_start_from_it() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            top, bottom = self.w.chunk(2)
            x = functional.linear(x, torch.cat([self.v[:2], self.v[2:]]))
            x = x @ top.t() @ bottom.contiguous()
            return torch.bmm(x[:, None], self.w.expand(x.shape[0], 4, 4)).squeeze(1)

    found = weights(Model())
    assert [name for name, _ in found] == ["linear", "matmul", "matmul", "bmm"]
    assert [root for _, root in found[1:]] == ["w", "w", "w"]
    assert "cat" in found[0][1]  # a computed weight


def test_products_of_two_activations_or_of_two_parameters_are_none() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.t()) @ (x @ (self.w @ self.v))

    assert [name for name, _ in weights(Model())] == ["matmul"]


def test_a_product_of_a_parameter_and_a_constant_is_a_weight_not_a_product() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return x @ (torch.ones(4, 4) @ self.w)

    assert len(weights(Model())) == 1


def test_a_learned_query_is_an_activation_and_what_is_made_of_it_too() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            query = functional.linear(self.query, self.w)
            return query @ functional.linear(x, self.v).t()

    assert weights(Model()) == [("linear", "w"), ("linear", "v")]


def test_what_is_looked_up_is_no_weight() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return x @ self.table(self.places)

    assert weights(Model()) == []


def test_vectors_are_no_weights() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return x @ self.vector + x @ self.vector[:, None].squeeze(1)

    assert weights(Model()) == []


def test_a_weight_that_depends_on_the_input_is_none() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.w * x.mean())

    assert weights(Model()) == []


def test_a_weight_that_is_written_in_place_is_none() -> None:
    class Model(Operands):
        def forward(self, x: Tensor) -> Tensor:
            built = self.w * 2
            built[0].copy_(x[0])
            return x @ built

    assert weights(Model()) == []


def test_a_weight_that_is_made_of_a_size_is_none() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places, self.head = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            table = self.places * torch.arange(x.shape[0])[:, None]
            return self.head(x.t() @ table)

    assert [site.name for site in fl.sites(fl.capture(Model(), (torch.randn(2, 4),)))] == [
        "head.activation",
        "head.weight",
    ]

"""UseLinear: every product with one binary matrix becomes a linear one, and computes what it did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.passes import FreezeMasks, UseLinear
from tests.models.small import spec

Product = Callable[[Tensor, Tensor, Tensor], Tensor]


class Multiplied(nn.Module):
    """One product of an activation, a weight and something that is added."""

    def __init__(self, product: Product, weight: tuple[int, ...], added: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.product = product
        self.weight = nn.Parameter(torch.randn(weight))
        self.added = nn.Parameter(torch.randn(added))

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight, self.added)


def before_and_after(model: nn.Module, x: Tensor) -> tuple[fl.Graph, fl.Graph]:
    program = fl.compile(model, spec(binarize__keep_float=[]), (x,), total_steps=10)
    program.driver.resume(10)
    before = fl.run(program.graph, [FreezeMasks()])
    return before, fl.run(before, [UseLinear()])


def called(graph: fl.Graph) -> list[object]:
    return [node.target for node in graph.nodes if node.op in ("call_function", "call_method")]


PRODUCTS: list[Product] = [
    lambda x, w, b: x @ w,
    lambda x, w, b: torch.matmul(x, w.t().t()),
    lambda x, w, b: w.t().matmul(x.mT).mT,
    lambda x, w, b: torch.mm(x[:, 0], w),
    lambda x, w, b: x.sum((0, 1)) @ w,
    lambda x, w, b: w.t() @ x.sum((0, 1)),
    lambda x, w, b: torch.addmm(b, x[:, 0], w),
    lambda x, w, b: b.addmm(x[:, 0], w, beta=0.5, alpha=3),
    lambda x, w, b: torch.addmm(b, x[:, 0], w, beta=0),
    lambda x, w, b: torch.addmm(b[0], w.mT, x[:, 0].t()),
    lambda x, w, b: torch.einsum("bti,io->bto", x, w),
    lambda x, w, b: torch.einsum("io,...i->...o", [w, x]),
    lambda x, w, b: functional.linear(x, w.t()),
    lambda x, w, b: torch.einsum("bti,ihd->bhtd", x, w.unflatten(1, (1, -1))),
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PRODUCTS), st.integers(2, 3), st.integers(1, 4), st.integers(2, 5), st.integers(2, 5))
def test_the_product_is_the_same_and_linear(
    product: Product, batch: int, tokens: int, inputs: int, outputs: int
) -> None:
    x = torch.randn(batch, tokens, inputs)
    before, after = before_and_after(Multiplied(product, (inputs, outputs), (outputs,)), x)
    assert functional.linear in called(after)
    assert not {torch.matmul, torch.mm, torch.addmm, torch.einsum, "matmul", "addmm"} & set(called(after))
    assert torch.allclose(after.module(x), before.module(x), atol=1e-4)


@pytest.mark.parametrize(
    ("product", "weight", "remains"),
    [
        (lambda x, w, b: torch.bmm(x, w.expand(x.shape[0], -1, -1)), (4, 5), torch.bmm),
        (lambda x, w, b: torch.baddbmm(b, x, w.expand(x.shape[0], -1, -1), alpha=2), (4, 5), torch.bmm),
        (lambda x, w, b: torch.matmul(x.unsqueeze(1), w), (3, 4, 5), torch.matmul),
        (lambda x, w, b: torch.einsum("bti,tio->bto", x, w), (3, 4, 5), torch.einsum),
        (lambda x, w, b: torch.einsum("bti,oi->bo", x, w), (5, 4), torch.einsum),
        (lambda x, w, b: torch.einsum("bti,oi->bto", x[..., :1], w), (5, 4), torch.einsum),
    ],
)
def test_products_with_many_matrices_and_sums_stay_what_they_are(
    product: Product, weight: tuple[int, ...], remains: object
) -> None:
    x = torch.randn(2, 3, 4)
    before, after = before_and_after(Multiplied(product, weight), x)
    assert remains in called(after)
    assert functional.linear not in called(after)
    assert torch.allclose(after.module(x), before.module(x), atol=1e-4)


def test_products_of_float_weights_stay_what_they_are() -> None:
    model, x = Multiplied(lambda x, w, b: x @ w, (4, 5)), torch.randn(2, 4)
    program = fl.compile(model, spec(binarize__keep_float=[], binarize__weights=False), (x,), total_steps=10)
    program.driver.resume(10)
    frozen = fl.run(program.graph, [FreezeMasks(), UseLinear()])
    assert functional.linear not in called(frozen)

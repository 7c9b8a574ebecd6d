from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from frostline.compiler.graph import Example, Facts, Graph, set_facts
from frostline.compiler.pooling import max_pool_of, origin_of


def graph_of(pool: Any) -> tuple[Graph, fx.Node]:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = pool

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x)

    module = fx.symbolic_trace(Pooled())
    for node in module.graph.nodes:
        set_facts(node, Facts(shape=(2, 3, 9, 9)))
    (pooled,) = (node for node in module.graph.nodes if node.op not in ("placeholder", "output"))
    return Graph(module, Example((torch.randn(2, 3, 9, 9),)), "hand"), pooled


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2), nn.MaxPool2d((3, 2), stride=1, padding=1, ceil_mode=True),
        lambda x: functional.max_pool2d(x, 3, padding=1), lambda x: functional.max_pool2d(x, [2, 4], stride=3),
        lambda x: torch.max_pool2d(x, 2, 1, ceil_mode=True),
    ],
)  # fmt: skip
def test_every_spelling_is_one_call(pool: Any) -> None:
    graph, node = graph_of(pool)
    found = max_pool_of(node, graph)
    assert found is not None
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(found[0](x, *found[1]), pool(x))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2, dilation=2), lambda x: functional.max_pool2d(x, 2, dilation=(1, 2)), nn.AvgPool2d(2),
        nn.ReLU(), lambda x: functional.avg_pool2d(x, 2),
    ],
)  # fmt: skip
def test_anything_else_is_none(pool: Any) -> None:
    graph, node = graph_of(pool)
    assert max_pool_of(node, graph) is None


def test_where_a_pooled_value_comes_from() -> None:
    _, node = graph_of(lambda x: torch.max_pool2d(x, 2))
    assert origin_of(node) is node.args[0]

"""FreezeMasks, UseLinear, SplitBias and PackWeights: each keeps what the graph computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import frostline as fl
from frostline.compiler.graph import facts
from frostline.compiler.invariants import binary, integer, is_binary, levels_of, packed
from frostline.errors import PassError
from frostline.passes import FREEZING, FreezeMasks, PackWeights, SplitBias, UseLinear
from tests.models.operations import Computed, Products
from tests.models.small import ZERO_ONE, Attention, Embedded, Positive, Tied, chain, positive_chain, spec

MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (chain, (2, 3, 8, 8), {}), (Attention, (2, 3, 8), {"progression__per": "channel"}), (Tied, (2, 4), {}),
    (positive_chain, (2, 3, 8, 8), {"overrides": ZERO_ONE}), (Positive, (2, 3, 8), {"overrides": ZERO_ONE}),
    (Computed, (2, 3, 6, 6), {}), (Products, (2, 4, 6), {}),
]  # fmt: skip


def settled(make: Callable[[], nn.Module], shape: tuple[int, ...], **edits: object) -> fl.Graph:
    program = fl.compile(make(), spec(**edits), (torch.randn(shape),), total_steps=20)
    program.driver.resume(20)
    program.net.eval()
    return program.graph


@pytest.mark.parametrize(("make", "shape", "edits"), MODELS)
def test_freezing_changes_nothing_but_the_form(
    make: Callable[[], nn.Module], shape: tuple[int, ...], edits: dict[str, Any]
) -> None:
    graph = settled(make, shape, **edits)
    x = torch.randn(shape)
    frozen = fl.run(graph, [FreezeMasks()])
    assert torch.allclose(frozen.module(x), graph.module(x), atol=1e-6)
    assert not list(binary(frozen))
    linear = fl.run(frozen, [UseLinear()])
    assert torch.allclose(linear.module(x), graph.module(x), atol=1e-5)
    split = fl.run(linear, [SplitBias()])
    assert torch.allclose(split.module(x), graph.module(x), atol=1e-5)
    assert not list(integer(split))
    small = fl.run(split, [PackWeights()])
    assert torch.equal(small.module(x), split.module(x))
    assert not list(packed(small))


def test_a_binary_node_knows_its_levels() -> None:
    overrides = [{"sites": "mix.activation", "levels": [0, 1]}]
    frozen = fl.run(settled(Positive, (2, 3, 8), overrides=overrides), FREEZING)
    levels = {str(facts(node).name): levels_of(node) for node in frozen.nodes if is_binary(node)}
    assert {name for name, both in levels.items() if both == (0, 1)} == {"mix.activation"}
    assert {both for name, both in levels.items() if name != "mix.activation"} == {(-1, 1)}
    line = next(line for line in frozen.show().splitlines() if "levels=" in line)
    assert "binarize(%softmax, levels=(0, 1))" in line


def test_an_unsettled_graph_is_refused_and_every_site_named() -> None:
    program = fl.compile(chain(), spec(), (torch.randn(2, 3, 8, 8),), total_steps=8)
    program.driver.resume(3)
    with pytest.raises(PassError) as caught:
        fl.run(program.graph, FREEZING)
    text = str(caught.value)
    assert text.startswith("FreezeMasks cannot run: the graph is not settled")
    assert "12.weight: 0 of 324 entries are binary" in text
    assert len(caught.value.offences) == 6


def test_latent_weights_are_gone_and_bits_remain() -> None:
    graph = settled(Tied, (2, 4))
    names = set(fl.run(graph, FREEZING).module.state_dict())
    assert {"a.weight", "b.weight", "twice.weight"} & names == set()
    assert {"a.weight_bits", "twice.weight_bits", "first.weight", "last.weight"} <= names
    assert "a.weight" in graph.module.state_dict()


def test_weights_only() -> None:
    graph = settled(chain, (2, 3, 8, 8), binarize__activations=False)
    frozen = fl.run(graph, FREEZING)
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(frozen.module(x), graph.module(x), atol=1e-5)


def test_a_binary_graph_can_be_copied() -> None:
    frozen = fl.run(settled(chain, (2, 3, 8, 8)), FREEZING)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(copy.deepcopy(frozen.module)(x), frozen.module(x))


def test_a_weight_that_an_embedding_shares_stays() -> None:
    program = fl.compile(Embedded(), spec(binarize__keep_float=[]), (torch.tensor([[1, 2], [3, 4]]),), total_steps=10)
    program.driver.resume(10)
    tokens = torch.tensor([[5, 6, 7]])
    binary = program.freeze().module
    assert binary(tokens[:, :2]).shape == (1, 2, 11)
    assert "head.weight" in binary.state_dict()


class Rescaled(nn.Module):
    """A parametrization that is written as a module with modes: it may drop entries while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return self.drop(w) - w.mean()


def test_weights_are_computed_as_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    parametrize.register_parametrization(model[0], "weight", Rescaled())
    program = fl.compile(model, spec(binarize__keep_float=[]), (torch.randn(2, 8),), total_steps=10)
    program.driver.resume(10)
    program.net.train()
    x = torch.randn(4, 8)
    assert torch.equal(program.freeze().module.eval()(x), program.net.eval()(x))


def test_a_weight_that_stays_float_for_one_of_its_readers_keeps_its_parameter() -> None:
    graph = settled(Tied, (2, 4), binarize__keep_float=["first", "last", "b.weight"])
    names = set(fl.run(graph, FREEZING).module.state_dict())
    assert {"a.weight", "b.weight", "a.weight_bits"} <= names

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.digits.network import residual
from frostline.compiler.invariants import mask_nodes
from frostline.errors import PassError, UsageError
from frostline.passes import CloseModules, OpenModules
from tests.models.small import Attention, LayerDrop, Tied, chain, spec


def small() -> nn.Module:
    return residual(width=4, depth=8)


class Noisy(nn.Module):
    """Blocks that make other calls in train mode, and size their own noise."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, _ = block(x)
        return self.head(x)


class Block(nn.Module):
    """Gives back two values, of which one may not be read, and changes one in place."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 8)
        self.register_buffer("shift", torch.full((12,), 0.1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = functional.hardtanh(self.norm(self.up(x)) + self.shift)
        if self.training:
            inner.mul_(1 + 0.1 * torch.ones(len(x), 1))
        return x + self.down(inner), inner


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...], list[str], int]] = [
    (small, (4, 1, 8, 8), ["body.*"], 4),
    (small, (4, 1, 8, 8), ["body.*", "*.conv1", "*.conv2"], 4 + 8),
    (small, (4, 1, 8, 8), ["stem", "body", "head"], 3),
    (chain, (4, 3, 8, 8), ["*"], 6),
    (Attention, (4, 3, 8), ["q", "v", "out"], 3),
    (Noisy, (4, 8), ["blocks.*", "head"], 4),
    (Noisy, (4, 8), ["*.up", "*.down", "blocks.*"], 9),
    (LayerDrop, (4, 4), ["blocks.*.0"], 3),
]
"""Models, their inputs, modules to close, and how many those are."""


def trained(make: Callable[[], nn.Module], shape: tuple[int, ...], closed: Sequence[str]) -> fl.Program:
    torch.manual_seed(0)
    program = fl.compile(make(), spec(), (torch.randn(shape),), total_steps=20, closed=closed)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.01, momentum=0.9)
    program.net.train()
    for step in range(20):
        torch.manual_seed(step)
        program.net(torch.randn(shape)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        program.advance()
    return program


@pytest.mark.parametrize(("make", "shape", "closed", "count"), MODELS)
def test_closed_modules_train_and_freeze_to_the_same_bits(
    make: Callable[[], nn.Module], shape: tuple[int, ...], closed: list[str], count: int
) -> None:
    flat, program = trained(make, shape, ()), trained(make, shape, closed)
    assert len(program.graph.parts()) - len(flat.graph.parts()) == count
    state, of_closed = flat.net.state_dict(), program.net.state_dict()
    assert list(state) == list(of_closed)
    assert all(torch.equal(value, of_closed[name]) and value.isfinite().all() for name, value in state.items())

    x = torch.randn(shape)
    assert torch.equal(copy.deepcopy(program.net).eval()(x), flat.net.eval()(x))
    one, other = flat.freeze(), program.freeze()
    for part, twin in zip(one.parts(), other.parts(), strict=True):
        assert sorted(str(node.target) for node in part.nodes) == sorted(str(node.target) for node in twin.nodes)
    assert torch.equal(one.module.eval()(x), other.module.eval()(x))


def test_a_closed_module_is_called_with_its_hooks_and_holds_its_parameters() -> None:
    program = fl.compile(small(), spec(), (torch.zeros(2, 1, 8, 8),), total_steps=20, closed=["body.*"])
    called: list[int] = []
    for index, block in enumerate(program.net.body):  # type: ignore[arg-type]
        block.register_forward_hook(lambda *_, index=index: called.append(index))
        assert {name for name, _ in block.named_parameters()} >= {"conv1.weight", "bn1.weight", "conv2.weight"}
    program.net(torch.zeros(3, 1, 8, 8))
    assert called == list(range(4))
    assert program.graph.show().count("module body.") == 4


def test_opening_is_the_way_back() -> None:
    graph = fl.compile(Noisy(), spec(), (torch.randn(4, 8),), total_steps=20).graph
    masks = [str(node.target) for node, _ in mask_nodes(graph)]
    closed = fl.run(graph, [CloseModules(("blocks.0", "blocks.1", "blocks.1.up"))])
    assert len(list(closed.nodes)) < len(list(graph.nodes))
    opened = fl.run(closed, [OpenModules()])
    assert [str(node.target) for node in opened.nodes] == [str(node.target) for node in graph.nodes]
    assert [str(node.target) for node, _ in mask_nodes(opened)] == masks
    x = torch.randn(5, 8)
    for mode in (True, False):
        results = [each.copy().module.train(mode)(x) for each in (graph, closed, opened)]
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


def test_masks_that_others_read_stay_outside() -> None:
    graph = fl.compile(Attention(), spec(), (torch.randn(2, 3, 8),), total_steps=20, closed=["q", "k", "v"]).graph
    assert [str(node.target) for node, _ in mask_nodes(graph)] == [
        "frostline_masks.q.activation", "frostline_masks.out.activation", "frostline_masks.out.weight",
    ]  # fmt: skip
    names = [str(node.target) for part in graph.parts()[1:] for node, _ in mask_nodes(part)]
    assert names == [f"frostline_masks.{name}.weight" for name in "qkv"]


class Shared(nn.Module):
    """A module that runs twice, with another in between; one that reads a weight of another's; a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.other = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.lender, self.tied, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.tied.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.other(torch.tanh(self.twice(torch.tanh(self.first(x)))))))
        return self.last(self.tied(functional.linear(torch.tanh(self.lender(x)), self.lender.weight)))


def test_what_cannot_be_closed_is_refused_all_at_once() -> None:
    keep: dict[str, Any] = {"binarize__keep_float": ["last"]}
    with pytest.raises(PassError) as refused:
        fl.compile(Shared(), spec(**keep), (torch.randn(2, 4),), total_steps=20, closed=["first", "twice", "lender"])
    text = str(refused.value)
    assert text.startswith("these modules cannot be closed")
    assert "first.weight is tied.weight as well" in text
    assert "twice does not run in one go: the model itself computes in between" in text
    assert "lender.weight is read outside of lender too" in text
    assert "test_close_modules.py:" in text


def test_patterns_that_match_no_module_are_refused() -> None:
    with pytest.raises(UsageError) as refused:
        fl.compile(Tied(), spec(), (torch.randn(2, 4),), total_steps=20, closed=["b*", "twise", "nothing.*"])
    assert str(refused.value).splitlines() == [
        "the modules to close cannot be found",
        '  "twise" matches no module',
        '    -> did you mean "twice"?',
        '  "nothing.*" matches no module',
        "    -> there are: first, a, b, twice, last",
    ]
    with pytest.raises(UsageError, match="closed is a list of patterns"):
        fl.compile(Tied(), spec(), (torch.randn(2, 4),), total_steps=20, closed="twice")
    with pytest.raises(PassError, match="there is no module twise"):
        fl.run(fl.compile(Tied(), spec(), (torch.randn(2, 4),), total_steps=20).graph, [CloseModules(("twise",))])

"""Under torch.compile a net is one graph, compiled once, over its whole progression."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import frostline as fl
from tests.models.small import chain

TOTAL = 40


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def program(spec: str) -> fl.Program:
    torch.manual_seed(0)
    return fl.compile(chain(), fl.load_spec(spec), (torch.randn(2, 3, 8, 8),), TOTAL)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    size = 4 + step % 3
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(5, (size,), generator=generator)


def loss_of(net: Callable[..., Tensor], step: int) -> Tensor:
    x, y = batch(step)
    return functional.cross_entropy(net(x), y)


def through(one: fl.Program, net: Callable[..., Tensor]) -> None:
    """Train and evaluate, masked and fully binary, in every step of the plan and with changing batches."""
    for step in range(TOTAL):
        one.net.train()
        loss_of(net, step).backward()
        one.net.eval()
        with torch.no_grad(), one.binarized():
            loss_of(net, step)
        one.advance()


@pytest.mark.parametrize("spec", ["stompp", "stompp-ste", "stompp-tanh", "sharpening", "held"])
def test_a_whole_progression_is_compiled_once_for_each_mode(spec: str) -> None:
    graphs = 0

    def counting(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    one = program(spec)
    through(one, torch.compile(one.net, backend=counting, fullgraph=True, dynamic=True))
    assert graphs == 2


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("spec", ["stompp", "stompp-ste"])
def test_inductor_computes_what_eager_does(spec: str) -> None:
    """Step by step, from the same weights: over many steps a sign turns what is rounded otherwise into what differs."""
    one = program(spec)
    compiled = torch.compile(one.net, fullgraph=True, dynamic=True)
    for step in (0, TOTAL // 3, TOTAL // 2, TOTAL):
        one.driver.resume(step)
        found = []
        nets: tuple[Callable[..., Tensor], ...] = (one.net, compiled)
        for net in nets:
            one.net.zero_grad()
            value = loss_of(net, step)
            value.backward()
            found.append([value.detach(), *(p.grad for p in one.net.parameters() if p.grad is not None)])
        for eager, own in zip(*found, strict=True):
            torch.testing.assert_close(eager, own, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_advancing_never_waits_for_the_device() -> None:
    one = program("stompp")
    one.net.cuda()
    one.driver.resume(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(TOTAL):
            one.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""What a tracer would get wrong in silence is left to another front end, or refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.compiler.capture import attempts
from frostline.errors import UsageError


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("alpha", torch.zeros(1))
        self.calls = 0
        self.own = random.Random(1)  # noqa: S311
        self.aux = torch.tensor(0.0)

    alpha: Tensor


class AsksForTheKind(Pair):
    def forward(self, x: Any) -> Tensor:
        return self.a(x + self.alpha if isinstance(x, Tensor) else x)


class Accumulates(Pair):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            total = torch.zeros(4)
            total.add_(x.sum(0))
        return self.a(x) + total


class AliasInPlace(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        kept = y
        y += self.alpha * self.b(x)
        return y + kept


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient.clamp(-2, 2)


class OwnBackward(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(Clipped.apply(self.a(x)))


class AsksForGradients(Pair):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.abs().max()
        return self.a(x / scale)


class Swallows(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        try:
            if (y > 100).any():
                y = y * 0
        except Exception:  # noqa: S110
            pass
        return y


class Counts(Pair):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.a(x) * (2 if self.calls > 100 else 1)


class DrawsItsOwn(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * (0 if self.own.random() < 1e-6 else 1)


class AsksForOneBatch(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * (2 if x.shape[0] == 5 else 1)


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        (AsksForTheKind(), "recorder"), (Accumulates(), "recorder"), (OwnBackward(), "recorder"),
        (AsksForGradients(), "recorder"), (Swallows(), "regions"), (Counts(), "regions"), (DrawsItsOwn(), "regions"),
        (AsksForOneBatch(), "regions"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_front_end_that_is_right_takes_it(model: Pair, takes: str) -> None:
    x = 0.1 * torch.randn(3, 4)
    won = next(attempt for attempt in attempts(model, (x,)) if attempt.graph is not None)
    assert won.front_end == takes


def test_operators_in_place_stay_in_place() -> None:
    model = AliasInPlace()
    graph = fl.capture(model, (torch.randn(3, 4),))
    model.alpha.fill_(0.5)
    x = torch.randn(3, 4)
    assert torch.equal(graph.module(x), model(x))


def _clamped(module: nn.Module, given: Any, out: Any) -> Any:
    return (given[0].clamp(-1e-3, 1e-3),)


def test_hooks_of_backward_are_not_lost() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].register_full_backward_hook(_clamped)
    graph = fl.capture(model, (torch.randn(3, 4),))
    assert graph.captured.startswith("regions (0, 2)")


def test_what_is_left_on_an_attribute_is_said() -> None:
    class Leaves(Pair):
        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            self.aux = y.pow(2).mean()
            return y

    assert fl.capture(Leaves(), (torch.randn(3, 4),)).captured.endswith("what the forward leaves on aux is not kept")


class ByPlaces(nn.Module):
    """Bakes the number of tokens in, and asks for it in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x = x if len(x.shape) == 3 else x[:, None]
        return self.linear(x).sum(1) / x.shape[1] * weights[:, None]


def test_a_recorded_graph_refuses_inputs_that_it_was_not_captured_for() -> None:
    graph = fl.capture(ByPlaces(), (torch.randn(3, 5, 4), torch.ones(3)))
    assert graph.captured.startswith("recorder")
    assert graph.module(torch.randn(7, 5, 4), torch.ones(7)).shape == (7, 4)
    with pytest.raises(fl.FrostlineError, match=r"x is \[3, 6, 4\], and was \[batch, 5, 4\]"):
        graph.module(torch.randn(3, 6, 4), torch.ones(3))
    with pytest.raises(fl.FrostlineError, match=r"x is torch.float64, and was torch.float32"):
        graph.module.double()(torch.randn(3, 5, 4).double(), torch.ones(3))
    with pytest.raises(fl.FrostlineError, match="weights has a batch of 3"):
        graph.module(torch.randn(6, 5, 4), torch.ones(3))


class Cache(Pair):
    """Keeps what it made of its first input."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.a(x.mean(0, keepdim=True))
        return self.b(x) + self.kept


class CacheOfOneSize(Pair):
    """Keeps what it made of its last input, for others of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.kept) != len(x):
            self.kept = x.detach().abs()
        return self.b(x) + self.kept


class CacheOfParameters(Pair):
    """Keeps what it made of its parameters, in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.kept = None
            return self.b(x) * self.a.weight.sum()
        if self.kept is None:
            self.kept = self.a.weight.sum()
        return self.b(x) * self.kept


def test_a_cache_is_taken_only_if_it_is_of_parameters() -> None:
    whole = [one.front_end for one in attempts(CacheOfParameters(), (torch.randn(3, 4),)) if one.graph is not None]
    assert "recorder" in whole
    for model in (Cache(), CacheOfOneSize()):
        for one in attempts(model, (torch.randn(3, 4),)):
            assert one.graph is None or one.front_end == "regions"


class SmallGradient(Pair):
    """A straight-through gradient that tracing would lose, a millionth of the others."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x) * 3
        with torch.inference_mode():
            difference = h.round() - h
        return self.b(x) + 1e-6 * (h + difference)


def test_small_gradients_are_compared() -> None:
    model, x = SmallGradient(), torch.randn(3, 4)
    graph = fl.capture(model, (x,))
    graph.module(x).sum().backward()
    assert model.a.weight.grad is not None
    assert model.a.weight.grad.abs().sum() > 0


class Careful(Pair):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            if x.max() > 5:
                raise ValueError("too large")
            scale = x.mean() * 2
        return self.b(self.a(x)) * scale


def test_a_check_that_fails_leaves_torch_s_modes_as_they_were() -> None:
    graph = next(one.graph for one in attempts(Careful(), (torch.rand(3, 4),)) if one.front_end == "recorder")
    assert graph is not None
    with pytest.raises(UsageError, match="its own check fails"):
        graph.module(torch.rand(3, 4) + 9)
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_under_no_grad_a_graph_turns_no_gradients_on() -> None:
    graph = next(one.graph for one in attempts(Careful(), (torch.rand(3, 4),)) if one.front_end == "recorder")
    assert graph is not None
    with torch.no_grad():
        assert not graph.module(torch.rand(3, 4)).requires_grad
        assert not torch.is_grad_enabled()
    assert graph.module(torch.rand(3, 4)).requires_grad

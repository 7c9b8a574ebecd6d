from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import frostline as fl
from frostline.compiler.capture.choose import Attempt, attempts
from frostline.compiler.graph import Graph
from frostline.errors import UsageError
from tests.models.branches import Checks
from tests.models.small import Attention, Embedded, InPlace, Moody, Spare, Tied, chain


def attempt(model: nn.Module, *inputs: Any, **kwargs: Any) -> Attempt:
    return next(one for one in attempts(model, inputs, kwargs) if one.front_end == "recorder")


def recorded(model: nn.Module, *inputs: Any, **kwargs: Any) -> Graph:
    """The recorder's graph, which is proven: outputs, gradients and buffers, in train and eval mode, three batches."""
    one = attempt(model, *inputs, **kwargs)
    assert one.graph is not None, one.reasons
    return one.graph


class Wrapped(nn.Module):
    """A linear operation before and after what is tested."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Any:
        return self.b(self.middle(self.a(x)))

    def middle(self, x: Tensor) -> Tensor:
        return x


class BranchOnShape(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return x.flip(-1) if x.shape[-1] == 4 else x


class BatchInReshape(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        batch, width = x.shape
        return x.reshape(batch * 2, width // 2).view(-1).reshape(batch, width) + torch.arange(batch)[:, None]


class Modes(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, self.training)


class Counter(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        self.seen = 0.9 * self.seen + 0.1 * x.mean(0)
        return x - self.seen


class InPlaceCounter(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.seen += x.mean(0)
        return x


class NumpyNumber(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return x / np.sqrt(4.0)


class NoGradient(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.abs().mean(-1, keepdim=True)
        return x / (1 + scale)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return -ctx.factor * gradient, None


class OwnBackward(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return Reversed.apply(x, 3.0)


class Checkpointed(Wrapped):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def middle(self, x: Tensor) -> Tensor:
        return checkpoint(self.b, x, use_reentrant=self.reentrant)


class Autocast(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.b(x)
        return y.float()


class Written(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 1:] = x[:, :-1]
        y.mul_(2)
        return y


class Made(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return nn.Hardtanh(-0.5, 0.5)(x)


class Unbound(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return torch.stack([part * index for index, part in enumerate(x.unbind(-1))], -1)


class Frozen(Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self


class Mapped(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda row: row * row.sum())(x)


class Complex(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(z * torch.polar(torch.ones(2), torch.arange(2.0))).flatten(-2)


CASES = [
    BranchOnShape(), BatchInReshape(), Modes(), Counter(), InPlaceCounter(), NumpyNumber(), NoGradient(), OwnBackward(),
    Checkpointed(True), Checkpointed(False), Autocast(), Written(), Made(), Unbound(), Frozen(), Mapped(), Complex(),
    Tied(), Spare(), InPlace(), Moody(),
]  # fmt: skip


@pytest.mark.parametrize("model", CASES, ids=lambda model: type(model).__name__)
def test_what_python_does_is_recorded_and_proven(model: nn.Module) -> None:
    recorded(model, torch.randn(3, 4))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(chain(), (2, 3, 8, 8)), (Attention(), (2, 5, 8)), (nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8))],
)
def test_networks(model: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    recorded(model, *([x, x, x] if isinstance(model, nn.MultiheadAttention) else [x]))


def test_integer_inputs_and_shared_embeddings() -> None:
    recorded(Embedded(), torch.randint(0, 11, (2, 6)))


def test_a_layer_of_attention_is_opened_and_its_projections_are_seen() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    graph = recorded(model, torch.randn(2, 5, 8))
    weights = [site.name for site in fl.sites(graph) if site.kind == "weight"]
    assert weights[:4] == [
        "layers.0.self_attn.in_proj_weight",
        "layers.0.self_attn.out_proj.weight",
        "layers.0.linear1.weight",
        "layers.0.linear2.weight",
    ]


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 40))
def test_any_batch_size_fits(batch: int) -> None:
    model = BatchInReshape().eval()
    net = recorded(model, torch.randn(3, 4)).module
    x = torch.randn(batch, 4)
    assert torch.equal(net(x), model(x))


def test_one_graph_where_the_modes_agree_and_two_where_they_do_not() -> None:
    assert recorded(Spare(), torch.randn(2, 4)).module.modes.training is None  # type: ignore[union-attr]
    graph = recorded(Modes(), torch.randn(2, 4))
    copied = copy.deepcopy(graph.module)
    for net in (graph.module, copied):
        x = torch.randn(64, 4)
        assert torch.equal(net.eval()(x), net(x))
        assert not torch.equal(net.train()(x), net(x))


def test_a_submodule_keeps_the_mode_that_the_model_gives_it() -> None:
    net = recorded(Frozen(), torch.randn(2, 4)).module
    assert net.train().training
    assert not net.get_submodule("norm").training
    assert not copy.deepcopy(net).train().get_submodule("norm").training


class Point(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Result:
    logits: Tensor
    point: Point
    label: str = "none"


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, pair: Result, *others: Tensor, scale: float = 1.0, **named: Tensor) -> Any:
        y = self.linear(pair.logits + pair.point.x) * scale + sum(others)
        point = Point(y, named["shift"])
        return {"result": Result(y, point, pair.label), "pairs": [(y, None)], "ordered": OrderedDict(a=y)}


def test_containers_of_any_kind_come_in_and_go_out() -> None:
    model = Containers()
    x = [torch.randn(2, 4) for _ in range(6)]
    given = Result(x[0], Point(x[1], x[2]), "given")
    net = recorded(model, given, x[3], x[4], scale=2.0, shift=x[5]).module
    out = net(given, x[3], x[4], scale=2.0, shift=x[5])
    expected = model(given, x[3], x[4], scale=2.0, shift=x[5])
    assert [type(out["result"]), type(out["ordered"]), type(out["result"].point)] == [Result, OrderedDict, Point]
    assert (out["result"].label, out["pairs"][0][1]) == ("given", None)
    assert torch.equal(out["result"].logits, expected["result"].logits)


def test_an_argument_that_was_baked_in_is_checked() -> None:
    net = recorded(nn.MultiheadAttention(8, 2), *[torch.randn(3, 2, 8)] * 3, need_weights=False).module
    with pytest.raises(UsageError, match="captured for other arguments\n  need_weights is True, and was False"):
        net(*[torch.randn(3, 2, 8)] * 3)


class Numbered(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return x * int(x.shape[0])


class BranchOnBatch(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        return x if x.shape[0] < 100 else -x


@pytest.mark.parametrize("model", [Numbered(), BranchOnBatch()], ids=["number", "branch"])
def test_a_forward_that_needs_the_batch_size_as_a_number_is_not_baked(model: nn.Module) -> None:
    one = attempt(model, torch.randn(2, 4))
    assert one.graph is None
    assert "the forward needs the batch size as a number" in one.reasons[0].what
    assert "tests/compiler/capture/test_recorder.py:" in str(one.reasons[0])


def test_the_model_is_not_changed() -> None:
    model = Counter()
    before = copy.deepcopy(model.state_dict())
    recorded(model, torch.randn(2, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(isinstance(p, torch._subclasses.FakeTensor) for p in model.parameters())


def test_branches_that_only_raise_are_checks() -> None:
    model = Checks()
    graph = recorded(model, torch.randn(2, 4))
    x = torch.randn(5, 4)
    assert torch.equal(graph.module(x), model(x))
    x[1, 1] = float("nan")
    with pytest.raises(UsageError, match=r"refuses these inputs\n  tests/models/branches.py:\d+: its own check fails"):
        graph.module(x)


class Both(Wrapped):
    def middle(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            x = -x
            raise_later = False
        else:
            raise_later = True
        return x + raise_later


def test_other_branches_on_values_are_none() -> None:
    assert attempt(Both(), torch.randn(2, 4)).graph is None

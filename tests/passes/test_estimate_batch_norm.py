from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from frostline.errors import PassError, UsageError
from frostline.passes import FREEZING, EstimateBatchNorm, FreezeMasks
from tests.models.small import chain, spec


def settled(**edits: object) -> fl.Program:
    program = fl.compile(chain(), spec(**edits), (torch.randn(2, 3, 8, 8),), total_steps=9)
    program.driver.resume(9)
    return program


def batches(count: int) -> list[Tensor]:
    return [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]


def test_statistics_are_the_mean_over_the_batches() -> None:
    binary = fl.run(settled().graph.snapshot(), [FreezeMasks()])
    estimated = fl.run(binary, (EstimateBatchNorm(batches(3)),))
    first = norms(estimated.module)[0]
    stem = binary.module.get_submodule("0") if hasattr(binary.module, "0") else None
    assert stem is not None
    weight, bias = dict(binary.module.named_parameters())["0.weight"], dict(binary.module.named_parameters())["0.bias"]
    read = [nn.functional.conv2d(x, weight, bias, padding=1) for x in batches(3)]
    torch.testing.assert_close(first.running_mean, torch.stack([y.mean((0, 2, 3)) for y in read]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([y.var((0, 2, 3)) for y in read]).mean(0))


def test_the_given_graph_and_all_settings_stay_as_they_are() -> None:
    binary = fl.run(settled().graph.snapshot(), [FreezeMasks()])
    before = [buffer.clone() for one in norms(binary.module) for buffer in one.buffers()]
    estimated = fl.run(binary, (EstimateBatchNorm(batches(1)),))
    after = [buffer for one in norms(binary.module) for buffer in one.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    for one, other in zip(norms(binary.module), norms(estimated.module), strict=True):
        assert (one.momentum, one.training) == (other.momentum, other.training)


def test_a_spec_asks_for_it_and_freeze_takes_the_batches() -> None:
    program = settled(batch_norm={"reestimate": 2})
    assert "BatchNorm estimated anew from 2 batches" in str(program.plan)
    x = torch.randn(4, 3, 8, 8)
    few, many = (program.freeze(batches=batches(count)).module.eval()(x) for count in (2, 5))
    assert torch.equal(few, many)  # more than it asks for are not read
    named = [{"input": batch} for batch in batches(2)]
    assert torch.equal(program.freeze(batches=named).module.eval()(x), few)
    assert not torch.equal(fl.run(program.graph.snapshot(), FREEZING).module.eval()(x), few)


class Own(nn.Module):
    """Two BatchNorms between linear layers, of which it keeps one in eval mode, and Dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.kept, self.free, self.drop = nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Own:
        super().train(mode)
        self.kept.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.drop(self.free(self.b(self.kept(self.a(x))))))


def test_everything_else_runs_as_in_eval_mode_whatever_the_net_s_mode() -> None:
    program = fl.compile(Own(), spec(batch_norm={"reestimate": 2}), (torch.randn(4, 6),), total_steps=9)
    program.driver.resume(9)
    x = [torch.randn(16, 6) for _ in range(2)]
    outputs = []
    for mode in (True, False):
        program.net.train(mode)
        outputs.append(program.freeze(batches=x).module.eval()(x[0]))
    assert torch.equal(*outputs)


def test_what_the_model_keeps_in_eval_mode_keeps_its_statistics() -> None:
    program = fl.compile(Own(), spec(batch_norm={"reestimate": 1}), (torch.randn(4, 6),), total_steps=9)
    program.driver.resume(9)
    module = program.freeze(batches=[torch.randn(16, 6)]).module
    assert not module.get_buffer("kept.running_mean").any()
    assert module.get_buffer("free.running_mean").all()


class Functional(nn.Module):
    """BatchNorm as a function on a module's own buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.bn = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(nn.functional.batch_norm(y, self.bn.running_mean, self.bn.running_var, training=self.training))


def test_batch_norm_as_a_function_is_refused() -> None:
    edits: dict[str, object] = {"batch_norm": {"reestimate": 1}, "binarize__keep_float": ["first"]}
    program = fl.compile(Functional(), spec(**edits), (torch.randn(4, 6),), total_steps=9)
    program.driver.resume(9)
    with pytest.raises(UsageError, match="called as a function cannot be estimated anew"):
        program.freeze(batches=[torch.randn(16, 6)])


def test_batches_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UsageError, match="some statistics are not finite"):
        settled(batch_norm={"reestimate": 1}).freeze(batches=[torch.full((16, 3, 8, 8), torch.nan)])


def test_a_checkpoint_serves_a_spec_with_another_estimate() -> None:
    program, other = settled(batch_norm={"reestimate": 3}), settled()
    other.load_state_dict(program.state_dict())
    assert other.step == 9


def test_what_is_folded_into_thresholds_cannot_be_estimated() -> None:
    with pytest.raises(PassError, match=r"what stands before 6\.activation is folded into thresholds"):
        fl.run(settled().graph.snapshot(), (*FREEZING, EstimateBatchNorm(batches(1))))


def test_missing_batches_are_named() -> None:
    program = settled(batch_norm={"reestimate": 3})
    with pytest.raises(UsageError, match="is to be estimated from 3 batches, and there are 2"):
        program.freeze(batches=batches(2))
    with pytest.raises(UsageError, match="and there are 0"):
        program.freeze()
    with pytest.raises(UsageError, match="batches are a list, or another iterable"):
        program.freeze(batches=5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the spec asks for no batches"):
        settled().freeze(batches=batches(2))


def test_batches_with_labels_do_not_fit() -> None:
    pairs = [(batch, torch.zeros(16)) for batch in batches(1)]
    with pytest.raises(UsageError, match="do not fit the model"):
        settled(batch_norm={"reestimate": 1}).freeze(batches=pairs)

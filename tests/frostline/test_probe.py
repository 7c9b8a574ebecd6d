from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.errors import CheckpointError, FrostlineError, UsageError
from frostline.records import Record, read_records
from tests.models.small import Branching, chain, spec

X, Y = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 5


def loss(net: nn.Module) -> Tensor:
    return functional.cross_entropy(net(X), Y)


def program_of(**edits: object) -> fl.Program:
    """A chain whose depths 2 to 5 turn in windows of 10 steps."""
    return fl.compile(chain(), spec(**edits), (X[:2],), total_steps=40)


def probed(program: fl.Program, step: int) -> tuple[Record, ...]:
    program.driver.resume(step)
    probe = fl.Probe(program, loss)
    probe.record()
    return probe.records


def test_a_row_for_every_site_with_what_the_plan_and_the_mask_say() -> None:
    rows = probed(program_of(), step=15)
    assert [(row.depth, row.kind) for row in rows] == [
        (depth, kind) for depth in (2, 3, 4, 5) for kind in ("activation", "weight")
    ]
    turning = [row for row in rows if row.depth == 3]
    assert [(row.site, row.start, row.stop, row.fraction) for row in turning] == [
        ("6.activation", 10, 20, 0.125),
        ("6.weight", 10, 20, 0.125),
    ]
    assert all(0.05 < row.frozen < 0.2 for row in turning)
    assert {row.frozen for row in rows if row.depth == 2} == {1}
    assert {row.frozen for row in rows if row.depth > 3} == {0}


def test_a_settled_activation_stops_the_gradient_to_everything_above_it() -> None:
    rows = probed(program_of(progression__order=["9.*", "*"]), step=20)
    assert {row.depth for row in rows if row.frozen == 1} == {4}
    assert all(row.gradient == 0 for row in rows if row.depth < 4)
    assert all(row.gradient > 0 for row in rows if row.depth >= 4)


@pytest.mark.parametrize("frozen", ["clipped", "identity"])
def test_with_a_surrogate_a_gradient_arrives_everywhere(frozen: str) -> None:
    rows = probed(program_of(gradient__frozen=frozen, progression__order=["9.*", "*"]), step=20)
    assert all(row.gradient > 0 for row in rows)


def test_the_gradient_is_that_of_the_loss_in_the_masked_value() -> None:
    """While nothing is frozen and no weight leaves [-1, 1], it is the parameter's own."""
    program = program_of()
    rows = probed(program, step=0)
    loss(program.net.train()).backward()
    parameters = dict(program.net.named_parameters())
    weights = [row for row in rows if row.kind == "weight"]
    expected = [float(parameters[row.site].grad.norm()) for row in weights]  # type: ignore[union-attr]
    assert [row.gradient for row in weights] == pytest.approx(expected)


def test_a_gradient_arrives_at_what_needs_none() -> None:
    """At the model's input, and at parameters that are not trained."""
    program = fl.compile(chain().requires_grad_(False), spec(binarize__keep_float=[]), (X[:2],), total_steps=40)
    rows = probed(program, step=0)
    assert all(row.gradient > 0 for row in rows)


def test_flips_are_counted_since_the_last_record() -> None:
    program = program_of()
    probe = fl.Probe(program, loss)
    probe.record()
    weight = dict(program.net.named_parameters())["6.weight"]
    for _ in range(2):
        program.advance()
        with torch.no_grad():
            weight.view(-1)[:27].neg_()
        probe.record()
    program.advance()
    probe.record()
    flips = {step: {row.site: row.flips for row in probe.records if row.step == step} for step in range(4)}
    assert [flips[step]["6.weight"] for step in range(4)] == [None, 27 / weight.numel(), 27 / weight.numel(), 0]
    assert [flips[step]["3.weight"] for step in range(4)] == [None, 0, 0, 0]
    assert {flips[step]["6.activation"] for step in range(4)} == {None}


class Switching(nn.Module):
    """Three linear layers with normalisation and dropout; another call in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardtanh(self.norm(self.a(x)))
        x = functional.dropout(x * 2, 0.5) if self.training else x
        return self.c(functional.hardtanh(self.b(x)))


class Around(nn.Module):
    """Python that branches on a value between two regions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branching, self.body = nn.Linear(4, 4), Branching(), Switching()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.branching(self.stem(x)))


SMALL = torch.randn(16, 4, generator=torch.Generator().manual_seed(2))
MODELS = {"two graphs": Switching, "regions": Around}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_sites_in_regions_and_in_the_graph_of_train_mode(model: Callable[[], nn.Module]) -> None:
    program = fl.compile(model(), spec(binarize__keep_float=[]), (SMALL[:2],), total_steps=40)
    probe = fl.Probe(program, lambda net: functional.cross_entropy(net(SMALL), Y))
    probe.record()
    assert {row.site for row in probe.records} == {turn.site.name for turn in program.plan.turns}
    assert len(probe.records) >= 6
    assert all(row.gradient > 0 for row in probe.records)


class EvalOnly(Switching):
    """Does not run in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("no labels")
        return super().forward(x)


def test_a_net_without_train_mode_is_probed_in_eval_mode() -> None:
    program = fl.compile(EvalOnly(), spec(binarize__keep_float=[]), (SMALL[:2],), total_steps=40)
    probe = fl.Probe(program, lambda net: functional.cross_entropy(net(SMALL), Y))
    probe.record()
    assert all(row.gradient > 0 for row in probe.records)


@contextmanager
def nothing_changes(net: nn.Module) -> Iterator[None]:
    def state() -> dict[str, Any]:
        tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
        hooks = [name for name, module in net.named_modules() if module._forward_hooks]
        modes = [module.training for module in net.modules()]
        versions = [id(tensor) for tensor in tensors.values()]
        return deepcopy({
            "tensors": {name: tensor.detach() for name, tensor in tensors.items()}, "gradients": gradients,
            "hooks": hooks, "modes": modes, "identity": versions, "random": torch.get_rng_state(),
            "python": random.getstate(), "enabled": torch.is_grad_enabled(),
        })  # fmt: skip

    before = state()
    yield
    after = state()
    for group in ("tensors", "gradients"):
        for name, one in before.pop(group).items():
            other = after[group][name]
            assert (one is None and other is None) or torch.equal(one, other), name
        after.pop(group)
    assert torch.equal(before.pop("random"), after.pop("random"))
    assert before == after


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_record_leaves_no_trace(model: Callable[[], nn.Module]) -> None:
    program = fl.compile(model(), spec(binarize__keep_float=[]), (SMALL[:2],), total_steps=40)
    functional.cross_entropy(program.net(SMALL), Y).backward()
    program.driver.resume(3)
    program.net.eval()
    next(module for module in program.net.modules() if isinstance(module, nn.BatchNorm1d)).train()
    probe = fl.Probe(program, lambda net: functional.cross_entropy(net(SMALL), Y))
    with nothing_changes(program.net):
        probe.record()
        with torch.no_grad():
            probe.record()
    assert len({row.loss for row in probe.records}) == 1

    def raising(net: nn.Module) -> Tensor:
        net(SMALL)
        raise KeyError("mine")

    with nothing_changes(program.net), pytest.raises(KeyError, match="mine"):
        fl.Probe(program, raising).record()


def test_training_with_records_is_training_without() -> None:
    def trained(records: bool) -> tuple[fl.Program, fl.Probe]:
        torch.manual_seed(0)
        program = fl.compile(Switching(), spec(), (SMALL[:2],), total_steps=9)
        optimizer = torch.optim.SGD(program.net.parameters(), lr=0.1, momentum=0.9)
        probe = fl.Probe(program, lambda net: functional.cross_entropy(net(SMALL), Y))
        while program.step < 9:
            functional.cross_entropy(program.net(torch.randn(16, 4)), Y).backward()
            if records:
                probe.record()
            optimizer.step()
            optimizer.zero_grad()
            program.advance()
        return program, probe

    (with_records, probe), (without, _) = trained(True), trained(False)
    assert len(probe.records) == 2 * 9
    one, other = with_records.net.state_dict(), without.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_compiled_net_runs_eagerly_in_a_record_and_stays_compiled() -> None:
    program = program_of()
    graphs = []

    def counting(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(module)
        return module.forward

    compiled = torch.compile(program.net.train(), backend=counting)
    compiled(X)
    made = len(graphs)
    probe = fl.Probe(program, lambda _: functional.cross_entropy(compiled(X), Y))
    probe.record()
    compiled(X)
    assert len(graphs) == made
    assert any(row.gradient > 0 for row in probe.records)


def test_a_loss_that_is_not_finite_names_step_and_window() -> None:
    program = program_of()
    program.driver.resume(13)
    probe = fl.Probe(program, lambda net: loss(net) / 0)
    with pytest.raises(FrostlineError, match="loss inf at step 13, while depth 3 was turning"):
        probe.record()
    assert probe.records == ()
    spoilt = fl.Probe(program, lambda net: (net(X) * 0).clamp(min=0).sqrt().sum())
    with pytest.raises(FrostlineError, match=r"gradient nan at 12\.weight at step 13, while depth 3 was turning"):
        spoilt.record()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda net: net(X), "the probe's loss is no scalar with a gradient"),
        (lambda net: loss(net).detach(), "the probe's loss is no scalar with a gradient"),
        (lambda net: 0.5, "the probe's loss is no scalar with a gradient"),
        (lambda net: nn.Linear(1, 1)(torch.ones(1)).sum(), "the probe's loss does not run the net"),
    ],
)
def test_a_loss_that_cannot_be_followed_is_refused(wrong: Callable[..., Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fl.Probe(program_of(), wrong).record()


@pytest.mark.parametrize("share", [93.0, -0.1, float("nan")])
def test_accuracies_are_shares(share: float) -> None:
    probe = fl.Probe(program_of(), loss)
    with pytest.raises(UsageError, match=r"masked is .*\n.*accuracies are shares from 0 to 1"):
        probe.record(masked=share)
    assert probe.records == ()


def test_the_table_comes_back_to_the_bit(tmp_path: Any) -> None:
    program = program_of()
    probe = fl.Probe(program, loss)
    probe.record()
    program.driver.resume(7)
    probe.record(masked=1 / 3, binary=0.1)
    probe.write(tmp_path / "probe.csv")
    assert tuple(read_records(tmp_path / "probe.csv")) == probe.records
    header = (tmp_path / "probe.csv").read_text().splitlines()[0]
    assert header == "step,depth,kind,site,start,stop,fraction,frozen,gradient,flips,loss,masked,binary"


def test_a_step_back_replaces_the_rows_from_there_on() -> None:
    program = program_of()
    probe = fl.Probe(program, loss)
    for step in (0, 4, 8, 4):
        program.driver.resume(step)
        probe.record()
    assert sorted({row.step for row in probe.records}) == [0, 4]
    assert len(probe.records) == 2 * 8


def test_a_probe_goes_on_from_its_state(tmp_path: Any) -> None:
    program = program_of()
    probe = fl.Probe(program, loss)
    probe.record()
    fl.save_checkpoint(tmp_path / "c.pt", {"probe": probe.state_dict()})
    program.advance()
    with torch.no_grad():
        dict(program.net.named_parameters())["6.weight"].neg_()
    resumed = fl.Probe(program, loss)
    resumed.load_state_dict(fl.load_checkpoint(tmp_path / "c.pt")["probe"])
    probe.record()
    resumed.record()
    assert resumed.records == probe.records
    assert {row.site: row.flips for row in resumed.records[8:]}["6.weight"] == 1


def test_the_state_of_another_probe_is_refused() -> None:
    probe = fl.Probe(program_of(), loss)
    probe.record()
    other = fl.compile(chain(layers=3), spec(), (X[:2],), total_steps=40)
    with pytest.raises(CheckpointError, match=r"another program\n.*12\.activation turns only in the checkpoint"):
        fl.Probe(other, loss).load_state_dict(probe.state_dict())
    wide = fl.compile(chain(width=7), spec(), (X[:2],), total_steps=40)
    with pytest.raises(CheckpointError, match=r"another program\n  3\.weight has another shape in the checkpoint"):
        fl.Probe(wide, loss).load_state_dict(probe.state_dict())
    for state in ({}, {"table": "step\n", "signs": {}}, None):
        with pytest.raises(CheckpointError, match="not the state of a probe"):
            probe.load_state_dict(state)  # type: ignore[arg-type]
    assert len(probe.records) == 8

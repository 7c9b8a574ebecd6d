from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import frostline as fl
from frostline.errors import CheckpointError, PassError, PlanError, UsageError
from tests.models.small import ZERO_ONE, Attention, chain, spec

TOTAL = 12


def program(seed: int = 0, **edits: object) -> fl.Program:
    torch.manual_seed(seed)
    return fl.compile(chain(), spec(**edits), (torch.zeros(2, 3, 8, 8),), total_steps=TOTAL)


def optimizer(one: fl.Program) -> torch.optim.SGD:
    return torch.optim.SGD(one.net.parameters(), lr=0.1, momentum=0.9)


def trained(one: fl.Program, sgd: torch.optim.SGD, until: int) -> list[float]:
    """The losses of training steps from the program's own step on; the data is a function of the step."""
    losses = []
    one.net.train()
    while one.step < until:
        generator = torch.Generator().manual_seed(one.step)
        x, y = torch.randn(8, 3, 8, 8, generator=generator), torch.randint(0, 5, (8,), generator=generator)
        loss = functional.cross_entropy(one.net(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        one.advance()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("frozen", ["none", "identity", "clipped"])
def test_training_ends_in_a_binary_graph_that_computes_the_same(frozen: str) -> None:
    one = program(gradient__frozen=frozen)
    trained(one, optimizer(one), TOTAL)
    x = torch.randn(4, 3, 8, 8)
    assert torch.allclose(one.freeze().module.eval()(x), one.net.eval()(x), atol=1e-5)


@pytest.mark.parametrize("stop", [0, 1, 5, 11, 12])
def test_resume_is_exact_to_the_bit(stop: int) -> None:
    whole = program()
    expected = trained(whole, optimizer(whole), TOTAL)

    first = program()
    sgd = optimizer(first)
    losses = trained(first, sgd, stop)
    state = copy.deepcopy((first.state_dict(), first.net.state_dict(), sgd.state_dict()))

    second = program(seed=99)
    other = optimizer(second)
    second.load_state_dict(state[0])
    second.net.load_state_dict(state[1])
    other.load_state_dict(state[2])
    losses += trained(second, other, TOTAL)
    assert losses == expected
    own, reference = second.net.state_dict(), whole.net.state_dict()
    assert all(torch.equal(own[name], reference[name]) for name in reference)


def test_resume_is_exact_with_masks_of_channels_and_other_levels() -> None:
    edits: dict[str, Any] = {"progression__per": "channel", "progression__depth": "module", "overrides": ZERO_ONE}
    whole, first, second = program(**edits), program(**edits), program(seed=99, **edits)
    optimizers = [optimizer(one) for one in (whole, first, second)]
    expected = trained(whole, optimizers[0], TOTAL)
    losses = trained(first, optimizers[1], 5)
    state = copy.deepcopy((first.state_dict(), first.net.state_dict(), optimizers[1].state_dict()))
    assert state[0]["shapes"]["6.activation"] == [6, 1, 1]
    second.load_state_dict(state[0])
    second.net.load_state_dict(state[1])
    optimizers[2].load_state_dict(state[2])
    assert losses + trained(second, optimizers[2], TOTAL) == expected


def test_masks_of_channels_train_at_every_height_and_width() -> None:
    one = program(progression__per="channel", overrides=ZERO_ONE)
    sgd = optimizer(one)
    for height, width in [(8, 8), (12, 10), (5, 16)] * 4:
        functional.cross_entropy(one.net(torch.randn(8, 3, height, width)), torch.arange(8) % 5).backward()
        sgd.step()
        sgd.zero_grad()
        one.advance()
    binary = one.freeze()
    x = torch.randn(2, 3, 20, 6)
    assert torch.allclose(binary.module.eval()(x), one.net.eval()(x), atol=1e-5)


def test_masks_of_elements_refuse_another_height() -> None:
    with pytest.raises(UsageError, match=r"3\.activation has another shape than in the example"):
        program().net(torch.zeros(2, 3, 9, 8))


def test_while_training_only_buffers_change() -> None:
    one = program()
    code, nodes = one.net.code, one.graph.show()
    identities = [id(parameter) for parameter in one.net.parameters()]
    trained(one, optimizer(one), TOTAL)
    assert (one.net.code, one.graph.show()) == (code, nodes)
    assert [id(parameter) for parameter in one.net.parameters()] == identities


def test_the_state_is_small_and_plain() -> None:
    state = program().state_dict()
    assert set(state) == {"spec", "total_steps", "steps_per_epoch", "step", "plan", "windows", "shapes"}
    assert state["windows"]["3.weight"] == [0, 3]
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 2000


def test_freeze_before_the_plan_is_done_names_the_sites() -> None:
    one = program()
    one.driver.resume(5)
    with pytest.raises(PassError) as caught:
        one.freeze()
    text = str(caught.value)
    assert text.startswith("the program cannot be frozen at step 5: it is not settled")
    assert "3.weight" not in text
    assert "12.activation: 0 of 384 entries are binary" in text


def test_a_frozen_graph_is_a_snapshot() -> None:
    one = program()
    one.driver.resume(TOTAL)
    x = torch.randn(4, 3, 8, 8)
    binary = one.freeze().module.eval()
    before = binary(x)
    with torch.no_grad():
        for parameter in one.net.parameters():
            parameter.zero_()
    assert torch.equal(binary(x), before)


def test_binarized_evaluates_the_fully_binary_network() -> None:
    one = program()
    one.net.eval()
    x = torch.randn(4, 3, 8, 8)
    masked = one.net(x)
    with one.binarized() as net:
        binary = net(x)
    assert torch.equal(one.net(x), masked)
    one.driver.resume(TOTAL)
    assert torch.equal(one.net(x), binary)
    assert not torch.equal(masked, binary)


def differences(state: dict[str, Any], one: fl.Program) -> str:
    with pytest.raises(CheckpointError) as caught:
        one.load_state_dict(state)
    return str(caught.value)


def test_a_checkpoint_of_another_spec_says_which_windows_differ() -> None:
    text = differences(program(progression__warmup=4).state_dict(), program())
    assert "3.weight turns in [0, 3) here and in [4, 6) in the checkpoint" in text
    assert "spec progression.warmup is 0 steps here and 4 steps in the checkpoint" in text
    text = differences(program(progression__per="channel").state_dict(), program())
    assert "spec progression.per is element here and channel in the checkpoint" in text
    assert "3.weight has shape [6, 6, 3, 3] here and [6, 1, 1, 1] in the checkpoint" in text


def test_a_checkpoint_of_another_model() -> None:
    other = fl.compile(Attention(), spec(), (torch.zeros(2, 3, 8),), total_steps=TOTAL)
    text = differences(other.state_dict(), program())
    assert "q.weight turns only in the checkpoint" in text
    assert "3.weight turns only in this program" in text


def test_a_checkpoint_of_another_width_or_budget() -> None:
    wide = fl.compile(chain(width=7), spec(), (torch.zeros(2, 3, 8, 8),), total_steps=TOTAL + 1)
    text = differences(wide.state_dict(), program())
    assert "3.weight has shape [6, 6, 3, 3] here and [7, 7, 3, 3] in the checkpoint" in text
    assert "total_steps is 12 here and 13 in the checkpoint" in text


def test_something_else_than_a_state() -> None:
    assert "it has no shapes" in differences(
        {"spec": {}, "step": 3, "total_steps": 1, "steps_per_epoch": 1, "windows": {}}, program()
    )
    state = program().state_dict()
    assert "step: Input should be greater than or equal to 0" in differences({**state, "step": -1}, program())
    assert "step: Input should be a valid integer" in differences({**state, "step": True}, program())
    assert "are not of the same sites" in differences({**state, "windows": {}}, program())
    assert "Input should be a valid list" in differences(
        {**state, "windows": dict.fromkeys(state["windows"])}, program()
    )
    assert "it has no spec" in differences([], program())  # type: ignore[arg-type]


def test_a_spec_that_is_spelled_otherwise_is_the_same_plan() -> None:
    one, other = program(progression__warmup="50%"), program(progression__warmup=6)
    other.load_state_dict({**one.state_dict(), "step": 7})
    assert other.step == 7


def test_a_state_without_a_digest_is_compared_field_by_field() -> None:
    state = program().state_dict()
    del state["plan"]
    assert program().load_state_dict(state) == ""
    assert "turns in [4, 6) here" in differences(state, program(progression__warmup=4))


def test_an_edited_spec_goes_on_when_told_to() -> None:
    trained_so_far, edited = program(), program(seed=9, progression__warmup=4, progression__curve={"kind": "linear"})
    trained(trained_so_far, optimizer(trained_so_far), 5)
    state = trained_so_far.state_dict()
    text = edited.load_state_dict(state, edited=True)
    assert "3.weight turns in [4, 6) here and in [0, 3) in the checkpoint" in text
    assert "spec progression.curve.kind is linear here and power in the checkpoint" in text
    assert edited.load_state_dict(edited.state_dict(), edited=True) == ""

    edited.net.load_state_dict(trained_so_far.net.state_dict())
    by_hand = program(progression__warmup=4, progression__curve={"kind": "linear"})
    by_hand.net.load_state_dict(trained_so_far.net.state_dict())
    by_hand.driver.resume(5)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(edited.net.eval()(x), by_hand.net.eval()(x))
    assert not torch.equal(edited.net(x), trained_so_far.net.eval()(x))


@pytest.mark.parametrize(
    "edits",
    [
        {"progression__per": "channel"},
        {"binarize__activations": False},
        {"binarize__keep_float": ["first", "last", "6.*"]},
        {"progression__order": "global", "seed": 4},
    ],
)
def test_edits_of_what_turns_and_how(edits: dict[str, Any]) -> None:
    state = {**program().state_dict(), "step": 5}
    one = program(**edits)
    assert one.load_state_dict(state, edited=True) == "\n".join(
        line.strip() for line in differences(state, program(**edits)).splitlines()[1:-1]
    )
    assert one.step == 5


def test_a_longer_budget_is_an_edit() -> None:
    longer = fl.compile(chain(), spec(), (torch.zeros(2, 3, 8, 8),), total_steps=2 * TOTAL)
    assert "total_steps is 24 here and 12 in the checkpoint" in longer.load_state_dict(
        program().state_dict(), edited=True
    )


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 10, 8)])
def test_another_model_is_refused_whatever_the_spec(shape: tuple[int, ...]) -> None:
    state = program(progression__warmup=4).state_dict()
    other = fl.compile(chain(width=7 if shape[2] == 8 else 6), spec(), (torch.zeros(shape),), total_steps=TOTAL)
    with pytest.raises(CheckpointError, match=r"is of another model\n(.|\n)*3\.activation has shape"):
        other.load_state_dict(state, edited=True)
    assert other.step == 0


def test_a_checkpoint_whose_own_spec_does_not_fit_is_of_another_model() -> None:
    state = program(overrides=[{"sites": "3.*", "curve": {"kind": "linear"}}]).state_dict()
    other = fl.compile(Attention(), spec(), (torch.zeros(2, 3, 8),), total_steps=TOTAL)
    with pytest.raises(CheckpointError, match=r"another model\n  the plan cannot be made, for this model\n.*\"3\.\*\""):
        other.load_state_dict(state, edited=True)
    state["spec"]["seed"] = -1
    with pytest.raises(CheckpointError, match=r"the checkpoint's spec is not a valid spec, for this model"):
        other.load_state_dict(state, edited=True)


def test_a_model_with_nothing_to_binarize() -> None:
    with pytest.raises(PlanError, match="no operation whose weight is a parameter"):
        fl.compile(nn.Sequential(nn.BatchNorm1d(3)), spec(binarize__keep_float=[]), (torch.zeros(2, 3),), 10)


def test_the_net_can_be_copied_and_scripted_into_any_loop() -> None:
    one = program()
    one.driver.resume(6)
    one.net.eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(copy.deepcopy(one.net)(x), one.net(x))


@pytest.mark.gpu
def test_the_whole_path_on_a_gpu() -> None:
    torch.manual_seed(0)
    one = fl.compile(chain().cuda(), spec(), (torch.zeros(2, 3, 8, 8, device="cuda"),), total_steps=TOTAL)
    sgd = optimizer(one)
    while one.step < TOTAL:
        functional.cross_entropy(one.net(torch.randn(8, 3, 8, 8).cuda()), torch.arange(8).cuda() % 5).backward()
        sgd.step()
        sgd.zero_grad()
        one.advance()
    x = torch.randn(4, 3, 8, 8).cuda()
    assert torch.allclose(one.freeze().module.eval()(x), one.net.eval()(x), atol=1e-4)


def test_a_spec_that_was_not_read() -> None:
    with pytest.raises(UsageError, match=r"read it first: fl\.load_spec\(path\)"):
        fl.compile(chain(), "schedule.yaml", (torch.zeros(2, 3, 8, 8),), 10)  # type: ignore[arg-type]

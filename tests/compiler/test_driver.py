from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import frostline as fl
from frostline.compiler.depths import Depths
from frostline.compiler.masks import Mask, Ramp
from frostline.compiler.sites import Operand, Site
from frostline.errors import UsageError
from tests.models.small import gradient_of, spec

TOTAL = 60


def driver(entries: int = 50, *sizes: int, **edits: object) -> tuple[fl.Driver, dict[str, Mask]]:
    """A driver of two sites `[entries, *sizes]`, one after the other, and the masks that it turns."""
    sites = [
        Site(name, at, "weight", (entries, *sizes), None, (Operand(name, name, name, "weight", Depths(at, at, at)),))
        for at, name in enumerate(("a", "b"))
    ]
    edits = {"progression__warmup": 10, "progression__tail": 10, **edits}
    plan = fl.plan(spec(**edits), sites, TOTAL)
    masks = {
        turn.site.name: Ramp(turn.gradient) if turn.transition == "sharpen" else Mask(turn.shape, turn.gradient)
        for turn in plan.turns
    }
    return fl.Driver(plan, masks), masks


def state(masks: dict[str, Mask]) -> list[Tensor]:
    return [mask.frozen for mask in masks.values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def advanced(steps: int, *shape: int, **edits: object) -> list[Tensor]:
    driving, masks = driver(*shape, **edits)  # type: ignore[arg-type]
    for _ in range(steps):
        driving.advance()
    return state(masks)


def test_sites_turn_one_after_the_other_and_settle() -> None:
    driving, masks = driver()
    seen = []
    for _ in range(TOTAL + 1):
        seen.append([float(mask.frozen.float().mean()) for mask in masks.values()])
        driving.advance()
    assert all(seen[step] == [0, 0] for step in range(11))
    assert all(0 < seen[step][0] < 1 and seen[step][1] == 0 for step in range(20, 29))
    assert all(seen[step][0] == 1 for step in range(30, TOTAL + 1))
    assert all(seen[step] == [1, 1] for step in range(50, TOTAL + 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, TOTAL + 5), st.integers(1, 60), st.integers(0, 3), st.sampled_from(["element", "channel"]))
def test_resuming_at_a_step_is_the_same_as_advancing_to_it(step: int, rate: int, seed: int, per: str) -> None:
    edits: dict[str, object] = {"progression__refresh": {"rate": rate}, "progression__per": per, "seed": seed}
    driving, masks = driver(20, 3, **edits)
    driving.resume(step)
    assert equal(state(masks), advanced(step, 20, 3, **edits))
    for _ in range(7):
        driving.advance()
    assert equal(state(masks), advanced(step + 7, 20, 3, **edits))


def test_a_mask_of_channels_is_that_of_as_many_elements() -> None:
    """Noise is drawn for the entries of a mask, whatever each of them stands for."""
    channels = advanced(22, 20, 3, 5, progression__per="channel")
    assert [mask.shape for mask in channels] == [(20, 1, 1), (20, 1, 1)]
    assert 0 < int(channels[0].sum()) < 20
    assert equal([mask.flatten() for mask in channels], advanced(22, 20))


def test_masks_are_a_function_of_the_seed() -> None:
    assert equal(advanced(25), advanced(25))
    assert not equal(advanced(25), advanced(25, seed=1))


def test_global_randomness_plays_no_part() -> None:
    before = torch.get_rng_state()
    first = advanced(25)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert equal(first, advanced(25))


def test_the_frozen_fraction_follows_the_curve() -> None:
    driving, masks = driver(entries=100_000, progression__curve={"kind": "linear"})
    for step in range(10, 30):
        driving.resume(step)
        assert float(masks["a"].frozen.float().mean()) == pytest.approx((step - 10) / 20, abs=0.01)


def test_each_step_draws_one_part_of_the_noise_anew() -> None:
    driving, masks = driver(entries=103, progression__refresh={"rate": 10})
    driving.resume(12)
    before = masks["a"].noise.clone()
    driving.advance()
    changed = (masks["a"].noise != before).nonzero().flatten().tolist()
    assert changed == list(range(33, 44))


def test_settled_and_waiting_sites_cost_no_noise() -> None:
    driving, masks = driver()
    for step, running in ((5, []), (15, ["a"]), (35, ["b"]), (55, [])):
        driving.resume(step)
        assert [name for name, mask in masks.items() if mask.noise.any()] == running


def test_noise_is_spread_evenly_over_all_bytes() -> None:
    driving, masks = driver(entries=256_000)
    driving.resume(15)
    counts = torch.bincount(masks["a"].noise.long(), minlength=256)
    assert float(((counts - 1000) ** 2 / 1000).sum()) == pytest.approx(255, abs=5 * math.sqrt(2 * 255))


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (1, 6, 5, 4)])
def test_masks_do_not_depend_on_the_order_in_memory(shape: tuple[int, ...]) -> None:
    driving, masks = driver(*shape)
    for mask in masks.values():
        mask.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert not mask.noise.is_contiguous()
    driving.resume(10)
    for _ in range(9):
        driving.advance()
    assert equal(state(masks), advanced(19, *shape))


def test_binarized_is_fully_binary_and_gives_the_masks_back() -> None:
    driving, masks = driver()
    for step in (5, 17, 40, 60):
        driving.resume(step)
        before = state(masks)
        with driving.binarized():
            assert all(mask.frozen.all() for mask in masks.values())
        assert equal(state(masks), before)


def test_masks_change_in_place() -> None:
    driving, masks = driver()
    places = [mask.noise.data_ptr() for mask in masks.values()]
    driving.resume(15)
    driving.advance()
    assert [mask.noise.data_ptr() for mask in masks.values()] == places


def test_an_instant_curve_is_binary_from_the_first_step() -> None:
    _, masks = driver(progression__curve={"kind": "instant"}, progression__warmup=0, progression__order="global")
    assert all(mask.frozen.all() for mask in masks.values())


@pytest.mark.parametrize("step", [-1, 1.5, True, "3"])
def test_a_step_that_is_none(step: object) -> None:
    with pytest.raises(UsageError, match="a step is a whole number"):
        driver()[0].resume(step)  # type: ignore[arg-type]


def test_a_copy_of_the_net_is_not_driven() -> None:
    driving, masks = driver()
    twin = copy.deepcopy(masks["a"])
    driving.resume(60)
    assert not twin.frozen.any()


@pytest.mark.gpu
def test_masks_on_a_gpu_are_those_of_the_cpu() -> None:
    driving, masks = driver()
    for mask in masks.values():
        mask.cuda()
    driving.resume(10)
    for _ in range(9):
        driving.advance()
    assert equal([mask.cpu() for mask in state(masks)], advanced(19))


def test_masks_do_not_depend_on_the_default_dtype() -> None:
    expected = advanced(19)
    torch.set_default_dtype(torch.float64)
    try:
        assert equal(advanced(19), expected)
    finally:
        torch.set_default_dtype(torch.float32)


RISING = {"kind": "tanh", "sharpness": {"start": 1, "stop": 4, "curve": {"kind": "linear"}}}


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, TOTAL + 5),
    st.sampled_from(
        [
            {"progression__refresh": {"rate": "none"}},
            {"progression__refresh": {"rate": "none"}, "progression__transition": "sharpen"},
            {"gradient": {"frozen": RISING, "tail": "identity"}},
        ]
    ),
)
def test_whatever_turns_resuming_is_the_same_as_advancing(step: int, edits: dict[str, object]) -> None:
    one, resumed = driver(20, 3, **edits)
    other, advanced_to = driver(20, 3, **edits)
    one.resume(step)
    for _ in range(step):
        other.advance()
    for name, mask in resumed.items():
        for (buffer, value), (_, expected) in zip(mask.named_buffers(), advanced_to[name].named_buffers(), strict=True):
            assert torch.equal(value, expected), buffer


def test_without_refresh_what_is_frozen_stays_frozen() -> None:
    driving, masks = driver(progression__refresh={"rate": "none"})
    before = state(masks)
    for _ in range(TOTAL):
        driving.advance()
        after = state(masks)
        assert all(bool((b <= a).all()) for b, a in zip(before, after, strict=True))
        before = after
    assert all(mask.all() for mask in before)


def test_what_sharpens_gets_narrower_and_then_settles() -> None:
    driving, masks = driver(
        progression__transition="sharpen", progression__refresh={"rate": "none"}, progression__curve={"kind": "linear"}
    )
    ramp = masks["a"]
    assert isinstance(ramp, Ramp)
    seen = []
    for step in (5, 10, 15, 20, 29):
        driving.resume(step)
        assert not ramp.frozen
        seen.append(float(ramp.width))
    assert seen == pytest.approx([1, 1, 0.75, 0.5, 0.05])
    with driving.binarized():
        assert ramp.frozen
    assert not ramp.frozen
    driving.resume(30)
    assert ramp.frozen


def test_a_sharpness_follows_its_curve_over_the_whole_budget() -> None:
    driving, masks = driver(gradient__frozen=RISING)
    for step, expected in ((0, 1.0), (20, 2.0), (60, 4.0), (70, 4.0)):
        driving.resume(step)
        assert float(masks["b"].sharpness) == pytest.approx(expected)


def test_the_surrogate_of_the_tail_begins_when_all_is_settled() -> None:
    driving, masks = driver(gradient={"frozen": "none", "tail": "clipped"})
    for step, expected in ((49, False), (50, True), (60, True), (0, False)):
        driving.resume(step)
        assert [bool(mask.in_tail) for mask in masks.values()] == [expected] * 2


def test_frozen_weights_are_held_whatever_the_optimizer_does() -> None:
    torch.manual_seed(0)
    weight = torch.randn(50, requires_grad=True)
    mask = Mask((50,), gradient_of("none"), hold=(50,))
    plan = driver()[0].plan
    driving = fl.Driver(plan, {"a": mask, "b": Mask((50,), gradient_of("none"))}, {"a": lambda: weight})
    driving.resume(20)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(8):
        frozen, before = mask.frozen, weight.detach().clone()
        mask(weight).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        driving.advance()
        assert torch.equal(weight.detach()[frozen], before[frozen])
        assert not torch.isclose(weight.detach()[~frozen], before[~frozen]).any()


def held() -> tuple[fl.Driver, Mask, Tensor]:
    weight = torch.randn(50, requires_grad=True)
    mask = Mask((50,), gradient_of("none"), hold=(50,))
    driving = fl.Driver(driver()[0].plan, {"a": mask, "b": Mask((50,), gradient_of("none"))}, {"a": lambda: weight})
    driving.resume(25)
    return driving, mask, weight


def test_a_forward_after_the_optimizer_s_step_changes_nothing_of_what_is_held() -> None:
    driving, mask, weight = held()
    before = weight.detach().clone()
    mask(weight).sum().backward()
    with torch.no_grad():
        weight += 1
    mask(weight)
    frozen = mask.frozen
    driving.advance()
    assert torch.equal(weight.detach()[frozen], before[frozen])
    assert torch.equal(weight.detach()[~frozen], before[~frozen] + 1)


def test_what_is_loaded_after_resuming_is_not_undone() -> None:
    driving, mask, weight = held()
    mask(weight)
    driving.resume(26)
    with torch.no_grad():
        weight.fill_(0.5)
    driving.advance()
    assert (weight == 0.5).all()


def test_binarized_within_binarized() -> None:
    driving, masks = driver()
    driving.resume(20)
    with driving.binarized():
        with driving.binarized():
            pass
        assert all(mask.frozen.all() for mask in masks.values())
    assert not masks["a"].frozen.all()


def test_an_instant_ramp_is_a_step_from_the_first() -> None:
    _, masks = driver(
        progression__transition="sharpen", progression__refresh={"rate": "none"},
        progression__curve={"kind": "instant"}, progression__warmup=0, progression__order="global",
    )  # fmt: skip
    assert all(bool(mask.frozen) for mask in masks.values())


def test_a_step_without_a_forward_holds_nothing() -> None:
    weight = torch.randn(50)
    mask = Mask((50,), gradient_of("none"), hold=(50,))
    driving = fl.Driver(driver()[0].plan, {"a": mask, "b": Mask((50,), gradient_of("none"))}, {"a": lambda: weight})
    before = weight.clone()
    for _ in range(40):
        driving.advance()
    assert torch.equal(weight, before)

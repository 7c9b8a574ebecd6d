"""What users of torch do around a net while it trains: each works through a whole progression, or to the bit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint

import frostline as fl
from tests.models.small import LayerDrop, chain, spec

TOTAL = 12
HALFWAY = 6
ACROSS_THE_SPEC: list[dict[str, Any]] = [
    {},
    {"gradient__frozen": "clipped", "progression__hold": True},
    {"gradient__frozen": {"kind": "tanh", "sharpness": 2.0}, "binarize__scale": "channel"},
    {"progression__transition": "sharpen", "progression__refresh": {"rate": "none"}},
]


def program(model: Any = None, **edits: Any) -> fl.Program:
    torch.manual_seed(0)
    return fl.compile(chain() if model is None else model, spec(**edits), (torch.zeros(2, 3, 8, 8),), TOTAL)


def sgd(one: fl.Program) -> torch.optim.SGD:
    return torch.optim.SGD(one.net.parameters(), lr=0.1, momentum=0.9)


def batch(step: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(0, 5, (size,), generator=generator)


def loss_of(net: Callable[[Tensor], Tensor], step: int) -> Tensor:
    x, y = batch(step)
    return functional.cross_entropy(net(x), y)


def train(one: fl.Program, optimizer: torch.optim.Optimizer, until: int = TOTAL) -> fl.Program:
    one.net.train()
    while one.step < until:
        loss_of(one.net, one.step).backward()
        optimizer.step()
        optimizer.zero_grad()
        one.advance()
    return one


def trained(until: int = TOTAL, **edits: Any) -> fl.Program:
    one = program(**edits)
    return train(one, sgd(one), until)


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    """All parameters and buffers, those of the masks among them, are equal to the bit."""
    mine, others = ({**dict(net.named_parameters()), **dict(net.named_buffers())} for net in (one, other))
    torch.testing.assert_close(mine, others, rtol=0, atol=0, equal_nan=True)


def gradients(net: nn.Module) -> dict[str, Tensor]:
    found = {name: one.grad.clone() for name, one in net.named_parameters() if one.grad is not None}
    net.zero_grad()
    return found


# Precision


@pytest.mark.parametrize("edits", ACROSS_THE_SPEC, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype, edits: dict[str, Any]) -> None:
    one = program(**edits)
    optimizer = sgd(one)
    given: list[tuple[torch.dtype, torch.dtype]] = []
    for mask in one.driver.masks.values():
        mask.register_forward_hook(lambda _, before, after: given.append((before[0].dtype, after.dtype)))
    while one.step < TOTAL:
        with torch.autocast("cpu", dtype):
            loss = loss_of(one.net, one.step)
        loss.backward()
        assert all(bool(found.isfinite().all()) for found in gradients(one.net).values())
        optimizer.step()
        one.advance()
    assert all(before == after for before, after in given)
    assert dtype in {before for before, _ in given}
    x, _ = batch(0)
    with torch.autocast("cpu", dtype):
        assert torch.allclose(one.freeze().module.eval()(x), one.net.eval()(x), atol=1e-2)


def test_a_step_that_a_grad_scaler_skips_is_not_advanced() -> None:
    """Scales are powers of two, so that what is scaled and unscaled is equal to the bit."""
    one = program()
    optimizer, scaler = sgd(one), torch.amp.GradScaler("cpu")
    overflows = iter([3, 7])
    overflow = next(overflows)
    while one.step < TOTAL:
        loss = loss_of(one.net, one.step)
        if one.step == overflow:
            loss, overflow = loss * torch.inf, next(overflows, -1)
        before = scaler.get_scale()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if scaler.get_scale() >= before:
            one.advance()
    assert scaler.get_scale() == 2.0**14
    torch.testing.assert_close(dict(one.net.named_parameters()), dict(trained().net.named_parameters()), rtol=0, atol=0)


# Memory


def in_channels_last(net: nn.Module) -> None:
    to: Any = net.to  # torch's own annotations lack it
    to(memory_format=torch.channels_last)


def test_a_net_in_channels_last_has_the_same_masks() -> None:
    one, plain = program(gradient__frozen="clipped"), program()
    in_channels_last(one.net)
    optimizer = sgd(one)
    for step in range(TOTAL):
        x, y = batch(step)
        functional.cross_entropy(one.net(x.to(memory_format=torch.channels_last)), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        one.advance()
        plain.advance()
        for name, mask in one.driver.masks.items():
            assert torch.equal(mask.frozen, plain.driver.masks[name].frozen)
    x, _ = batch(0)
    last = x.to(memory_format=torch.channels_last)
    assert torch.allclose(one.freeze().module.eval()(last), one.net.eval()(last), atol=1e-5)


def test_masks_keep_the_memory_format() -> None:
    one = program(gradient__frozen="clipped")
    in_channels_last(one.net)
    one.driver.resume(HALFWAY)
    kept: dict[str, bool] = {}
    for name, mask in one.driver.masks.items():
        mask.register_forward_hook(
            lambda _, before, after, name=name: kept.update({name: before[0].stride() == after.stride()})
        )
    one.net(batch(0)[0].to(memory_format=torch.channels_last))
    assert kept == dict.fromkeys(one.driver.masks, True)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    one = trained(HALFWAY, gradient__frozen="clipped", progression__hold=True)
    other = copy.deepcopy(one)
    x, y = batch(HALFWAY)
    x.requires_grad_()
    functional.cross_entropy(one.net(x), y).backward()
    functional.cross_entropy(checkpoint(other.net, x, use_reentrant=reentrant), y).backward()
    for program in (one, other):
        program.advance()
    torch.testing.assert_close(gradients(other.net), gradients(one.net), rtol=0, atol=0)
    masks, others = (dict(program.net.get_submodule("frostline_masks").named_buffers()) for program in (one, other))
    torch.testing.assert_close(masks, others, rtol=0, atol=0, equal_nan=True)


# Steps


def test_gradients_gather_over_batches_while_the_masks_stand_still() -> None:
    layers = [nn.Conv2d(3, 6, 3), nn.Hardtanh(), nn.Conv2d(6, 6, 3), nn.Hardtanh(), nn.Conv2d(6, 6, 3), nn.Hardtanh()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 5))
    one = program(model, gradient__frozen="clipped", progression__hold=True)
    optimizer = sgd(one)
    for step in range(TOTAL):
        x, y = batch(step)
        functional.cross_entropy(one.net(x), y).backward()
        whole = gradients(one.net)
        for part in range(4):
            some = slice(2 * part, 2 * part + 2)
            (functional.cross_entropy(one.net(x[some]), y[some]) / 4).backward()
        torch.testing.assert_close({n: w.grad for n, w in one.net.named_parameters() if n in whole}, whole)
        frozen = {
            name: (mask.frozen.clone(), one.net.get_parameter(name).detach().clone())
            for name, mask in one.driver.masks.items()
            if mask.latent is not None
        }
        optimizer.step()
        optimizer.zero_grad()
        one.advance()
        assert frozen
        for name, (mask, before) in frozen.items():
            assert torch.equal(one.net.get_parameter(name).detach()[mask], before[mask])
    one.freeze()


# Copies


def test_averaged_weights_through_a_whole_progression() -> None:
    one = program(gradient__frozen="clipped")
    optimizer, averaged = sgd(one), AveragedModel(one.net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = {name: weight.detach().clone() for name, weight in one.net.named_parameters()}
    for step in range(TOTAL):
        train(one, optimizer, until=step + 1)
        averaged.update_parameters(one.net)
        for name, weight in one.net.named_parameters():
            expected[name] = (expected[name] + weight.detach()) / 2 if step else weight.detach().clone()
        masks = one.net.get_submodule("frostline_masks")
        assert_equal(averaged.module.get_submodule("frostline_masks"), masks)
    torch.testing.assert_close({n: w.detach() for n, w in averaged.module.named_parameters()}, expected)
    update_bn([batch(step)[0] for step in range(4)], averaged)
    x, _ = batch(99)
    means = averaged.eval()(x)
    one.net.load_state_dict(averaged.module.state_dict())
    assert torch.equal(one.net.eval()(x), means)
    assert torch.allclose(one.freeze().module.eval()(x), means, atol=1e-5)


def normalised() -> nn.Module:
    """Weights that hooks compute, which torch itself does not copy."""
    torch.manual_seed(0)
    model = chain()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            weight_norm(layer)
    return model


@pytest.mark.parametrize("make", [chain, normalised])
@pytest.mark.parametrize("edits", ACROSS_THE_SPEC[:2], ids=str)
def test_a_copy_of_a_program_trains_on_by_itself(make: Callable[[], nn.Module], edits: dict[str, Any]) -> None:
    if make is normalised:
        edits = {name: value for name, value in edits.items() if name != "progression__hold"}
    torch.manual_seed(0)
    whole = program(make(), **edits)
    train(whole, sgd(whole))
    torch.manual_seed(0)
    one = program(make(), **edits)
    optimizer = sgd(one)
    train(one, optimizer, until=HALFWAY)
    twin, its_optimizer = copy.deepcopy((one, optimizer))
    assert {id(weight) for weight in twin.net.parameters()} == {id(weight) for weight in twin.model.parameters()}
    before = copy.deepcopy(one.net)
    train(twin, its_optimizer)
    assert (one.step, twin.step) == (HALFWAY, TOTAL)
    assert_equal(one.net, before)
    assert_equal(twin.net, whole.net)
    train(one, optimizer)
    assert_equal(one.net, whole.net)
    twin.freeze()


def test_a_copy_within_a_step_holds_what_that_step_read() -> None:
    one = trained(HALFWAY, gradient__frozen="clipped", progression__hold=True)
    optimizer = sgd(one)
    loss_of(one.net, one.step).backward()
    optimizer.step()
    twin = copy.deepcopy(one)
    for program in (one, twin):
        program.advance()
    assert_equal(twin.net, one.net)


def test_the_driver_of_a_copy_follows_it_wherever_it_goes() -> None:
    """Moving a net gives its masks other buffers."""
    twin = copy.deepcopy(program())
    twin.net.to("meta")
    assert all(mask.noise.is_meta for mask in twin.driver.masks.values())


@pytest.mark.parametrize("model", [chain(), LayerDrop()], ids=["whole", "regions"])
def test_what_is_kept_from_ranks_is_kept_from_those_of_a_copy(model: nn.Module) -> None:
    model._ddp_params_and_buffers_to_ignore = ["own"]  # type: ignore[assignment]
    x = torch.zeros(2, 3, 8, 8) if isinstance(model, nn.Sequential) else torch.randn(4, 4)
    one = fl.compile(model, spec(binarize__keep_float=[]), (x,), total_steps=TOTAL)
    nets: list[Any] = [one.net, copy.deepcopy(one).net]
    kept, copied = (set(net._ddp_params_and_buffers_to_ignore) for net in nets)
    assert kept == copied > {"own"}


def test_a_copy_of_a_model_in_regions() -> None:
    torch.manual_seed(0)
    one = fl.compile(LayerDrop(), spec(binarize__keep_float=[]), (torch.randn(4, 4),), total_steps=TOTAL)
    assert one.graph.regions
    twin = copy.deepcopy(one)
    twin.driver.resume(TOTAL)
    assert not any(mask.frozen.all() for mask in one.driver.masks.values())
    x = torch.randn(4, 4)
    assert torch.equal(twin.freeze().module.eval()(x), twin.net.eval()(x))


# Checkpoints


def test_a_checkpoint_is_a_spec_a_step_and_the_names_of_the_model(tmp_path: Path) -> None:
    one = program()
    optimizer = sgd(one)
    train(one, optimizer, until=HALFWAY)
    state = {"program": one.state_dict(), "net": one.net.state_dict(), "optimizer": optimizer.state_dict()}
    fl.save_checkpoint(tmp_path / "c.pt", state)
    assert state["net"].keys() == chain().state_dict().keys()

    state = fl.load_checkpoint(tmp_path / "c.pt")
    planned = fl.read_spec(json.dumps(state["program"]["spec"]))
    resumed = fl.compile(chain(), planned, (torch.zeros(2, 3, 8, 8),), state["program"]["total_steps"])
    resumed.load_state_dict(state["program"])
    resumed.net.load_state_dict(state["net"])
    optimizer = sgd(resumed)
    optimizer.load_state_dict(state["optimizer"])
    assert_equal(train(resumed, optimizer).net, trained().net)

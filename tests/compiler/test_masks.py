from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from frostline.compiler.masks import Mask, Ramp, binarize
from frostline.errors import UsageError
from frostline.schedules import SIGNS, ZERO_ONE, Levels
from tests.models.small import gradient_of

U = [-2.0, -0.5, 0.0, 0.5, 2.0]


def masked(frozen: str, mask: list[bool], levels: Levels = SIGNS) -> tuple[Tensor, Tensor]:
    """The masked values of U, and their gradient."""
    module = Mask((5,), gradient_of(frozen), levels)
    module.freeze(torch.tensor(mask))
    u = torch.tensor(U, requires_grad=True)
    value = module(u)
    value.sum().backward()
    assert u.grad is not None
    return value.detach(), u.grad


def test_the_sign_of_zero_is_plus_one() -> None:
    assert binarize(torch.tensor([-0.0, 0.0, -1e-30])).tolist() == [1.0, 1.0, -1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    assert binarize(torch.ones(2, dtype=dtype)).dtype == dtype
    assert Mask((2,), gradient_of("clipped"))(torch.ones(2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("frozen", ["none", "identity", "clipped"])
def test_unfrozen_entries_are_clipped_and_their_gradient_is_clip_s(frozen: str) -> None:
    value, gradient = masked(frozen, [False] * 5)
    assert value.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert gradient.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("frozen", "expected"), [("none", [0, 0, 0, 0, 0]), ("identity", [1, 1, 1, 1, 1]), ("clipped", [0, 1, 1, 1, 0])]
)
def test_frozen_entries_are_binary_and_their_gradient_is_the_surrogate_s(frozen: str, expected: list[int]) -> None:
    value, gradient = masked(frozen, [True] * 5)
    assert value.tolist() == [-1, -1, 1, 1, 1]
    assert gradient.tolist() == expected


@pytest.mark.parametrize(
    ("frozen", "expected"), [("none", [0, 0, 0, 0, 0]), ("identity", [1, 1, 1, 1, 1]), ("clipped", [0, 0, 1, 1, 0])]
)
def test_the_levels_zero_and_one_have_their_middle_at_a_half(frozen: str, expected: list[int]) -> None:
    value, gradient = masked(frozen, [True] * 5, ZERO_ONE)
    assert value.tolist() == [0, 0, 0, 1, 1]
    assert gradient.tolist() == expected
    value, gradient = masked(frozen, [False] * 5, ZERO_ONE)
    assert value.tolist() == [0, 0, 0, 0.5, 1]
    assert gradient.tolist() == [0, 0, 1, 1, 0]


@settings(deadline=None)
@given(st.floats(-3, 3, width=32))
def test_zero_and_one_are_the_rounding_of_what_is_clipped(u: float) -> None:
    rounded = 1.0 if u == 0.5 else float(torch.tensor(u).clamp(0, 1).round())  # torch rounds halves to even
    assert binarize(torch.tensor([u]), ZERO_ONE).tolist() == [rounded]


def test_the_surrogate_is_for_frozen_entries_only() -> None:
    value, gradient = masked("identity", [True, False, True, False, False])
    assert value.tolist() == [-1, -0.5, 1, 0.5, 1]
    assert gradient.tolist() == [1, 1, 1, 1, 0]


def test_a_mask_is_no_part_of_the_state() -> None:
    assert not Mask((3,), gradient_of("none")).state_dict()


def test_the_batch_shares_a_mask() -> None:
    module = Mask((2,), gradient_of("none"))
    module.freeze(torch.tensor([True, False]))
    assert module(torch.full((3, 2), 0.25)).tolist() == [[1, 0.25]] * 3


sizes = st.integers(1, 5)


@settings(deadline=None)
@given(st.integers(1, 6), st.lists(sizes, max_size=3), sizes, st.data())
def test_a_mask_of_channels_fits_every_size_of_the_other_axes(
    channels: int, spatial: list[int], batch: int, data: st.DataObject
) -> None:
    module = Mask((channels, *(1 for _ in spatial)), gradient_of("none"))
    frozen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=channels, max_size=channels)))
    module.freeze(frozen.view(module.noise.shape))
    u = torch.empty(batch, channels, *spatial).uniform_(-0.9, 0.9)
    value = module(u)
    assert value.shape == u.shape
    for channel, binary in enumerate(frozen.tolist()):
        assert torch.equal(value[:, channel], binarize(u[:, channel]) if binary else u[:, channel])


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=3), st.lists(sizes, min_size=1, max_size=4))
def test_a_mask_takes_the_values_that_it_covers_and_refuses_all_others(mask: list[int], value: list[int]) -> None:
    module, u = Mask(tuple(mask), gradient_of("none")), torch.zeros(value)
    try:
        covers = torch.broadcast_shapes(mask, value) == u.shape
    except RuntimeError:
        covers = False
    if covers:
        assert module(u).shape == u.shape
    else:
        with pytest.raises(UsageError, match="another shape"):
            module(u)


def test_a_value_that_does_not_fit_its_mask_is_named_with_the_remedy() -> None:
    module = Mask((6, 8, 8), gradient_of("none"), name="3.activation", where="net.py:7")
    with pytest.raises(UsageError) as caught:
        module(torch.zeros(2, 6, 4, 8))
    assert str(caught.value) == (
        "3.activation has another shape than in the example\n"
        "  net.py:7: a value of 2x6x4x8 does not fit a mask of 6x8x8\n"
        "    -> where height, width or token count varies, mask whole channels: `per: channel` in the spec"
    )


@pytest.mark.parametrize("frozen", ["none", "identity", "clipped"])
@pytest.mark.parametrize(
    ("dynamic", "expected"), [(None, 2), (True, 1)]
)  # the first batch and every other; all at once
def test_a_compiled_mask_is_one_graph_for_every_batch(frozen: str, dynamic: bool | None, expected: int) -> None:
    torch.compiler.reset()
    net = nn.Sequential(Mask((3, 1), gradient_of(frozen)), Mask((3, 4), gradient_of(frozen), ZERO_ONE))
    graphs = 0

    def counting(graph: nn.Module, _: object) -> nn.Module:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(net, backend=counting, fullgraph=True, dynamic=dynamic)
    for batch in (2, 3, 5, 7):
        u = torch.randn(batch, 3, 4)
        assert torch.equal(compiled(u), net(u))
    assert graphs == expected


def gradient_at(module: Mask, values: list[float]) -> tuple[list[float], list[float]]:
    u = torch.tensor(values, requires_grad=True)
    value = module(u)
    value.sum().backward()
    assert u.grad is not None
    return value.detach().tolist(), u.grad.tolist()


def test_a_sharpness_is_what_its_buffer_says() -> None:
    module = Mask((2,), gradient_of({"kind": "tanh", "sharpness": 1}))
    module.freeze(True)
    assert gradient_at(module, [0.0, 0.5])[1] == pytest.approx([1, 1 - math.tanh(0.5) ** 2])
    module.sharpness.fill_(4)
    assert gradient_at(module, [0.0, 0.5])[1] == pytest.approx([4, 4 * (1 - math.tanh(2) ** 2)])


@pytest.mark.parametrize(("frozen", "tail"), [("none", "identity"), ("identity", "clipped"), ("clipped", "none")])
def test_the_tail_may_have_a_surrogate_of_its_own(frozen: str, tail: str) -> None:
    module = Mask((2,), gradient_of(frozen, tail))
    module.freeze(True)
    expected = {"none": [0, 0], "identity": [1, 1], "clipped": [1, 0]}
    assert gradient_at(module, [0.5, 2]) == ([1, 1], expected[frozen])
    module.in_tail.fill_(True)
    assert gradient_at(module, [0.5, 2]) == ([1, 1], expected[tail])


def test_an_infinite_entry_is_as_any_that_is_clipped() -> None:
    for frozen in ("none", "identity", "clipped", "polynomial"):
        module = Mask((2,), gradient_of(frozen))
        module.freeze(torch.tensor([True, False]))
        assert gradient_at(module, [float("inf"), -float("inf")]) == ([1, -1], [0, 0])


def test_frozen_weights_are_scaled_by_channel_without_gradient() -> None:
    module = Mask((2, 2), gradient_of("clipped"), scaled=0)
    module.freeze(torch.tensor([[True, True], [True, False]]))
    w = torch.tensor([[0.25, -0.75], [0.5, -0.1]], requires_grad=True)
    value = module(w)
    assert value.tolist() == [[0.5, -0.5], [pytest.approx(0.3), pytest.approx(-0.1)]]
    value.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1, 1], [1, 1]]


def test_a_mask_that_holds_keeps_what_its_first_forward_with_gradients_read() -> None:
    module = Mask((2,), gradient_of("none"), hold=(2,))
    assert module.latent is not None
    with torch.no_grad():
        module(torch.ones(2))
    assert module.latent.isnan().all()
    module(torch.tensor([0.5, 2.0]))
    module(torch.tensor([3.0, 4.0]))
    assert module.latent.tolist() == [0.5, 2.0]
    assert not module.state_dict()


def test_a_ramp_becomes_a_step() -> None:
    module = Ramp(gradient_of("none"))
    assert gradient_at(module, [-2, -0.25, 0.25, 0.5]) == ([-1, -0.25, 0.25, 0.5], [0, 1, 1, 1])
    module.width.fill_(0.25)
    assert gradient_at(module, [-2, -0.125, 0.125, 0.5]) == ([-1, -0.5, 0.5, 1], [0, 4, 4, 0])
    module.freeze(True)
    assert gradient_at(module, [-2, -0.125, 0.0, 0.5]) == ([-1, -1, 1, 1], [0, 0, 0, 0])


def test_a_surrogate_stands_in_for_a_ramp_s_gradient() -> None:
    module = Ramp(gradient_of("identity"))
    module.width.fill_(0.25)
    assert gradient_at(module, [-2, -0.125, 0.125, 0.5]) == ([-1, -0.5, 0.5, 1], [1, 1, 1, 1])


def test_a_ramp_between_zero_and_one() -> None:
    module = Ramp(gradient_of("none"), ZERO_ONE)
    module.width.fill_(0.5)
    assert gradient_at(module, [0.0, 0.375, 0.5, 0.75]) == ([0, 0.25, 0.5, 1], [0, 2, 2, 2])

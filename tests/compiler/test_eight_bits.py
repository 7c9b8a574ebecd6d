from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.compiler.eight_bits import round_off, widen


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=5),
    st.data(),
    st.sampled_from([0.0, 1e-45, 1e-38, 1e-3, 1.0, 1e30, torch.finfo(torch.float32).max]),
)
def test_every_weight_is_within_half_a_step_and_the_largest_of_a_channel_is_exact(
    shape: list[int], data: st.DataObject, size: float
) -> None:
    channels = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    weight = (torch.rand(shape) * 2 - 1) * size
    bytes, scale = round_off(weight, channels)
    assert (bytes.dtype, bytes.shape) == (torch.int8, weight.shape)
    assert list(scale.shape) == [each if axis in channels else 1 for axis, each in enumerate(shape)]
    wide = widen(bytes, scale)
    assert wide.dtype == torch.float32
    assert bool(wide.isfinite().all())
    assert int(bytes.min()) >= -127
    steps = ((wide.double() - weight.double()) / scale.double()).abs()
    summed = [axis for axis in range(len(shape)) if axis not in channels]
    if size >= 1e-30:  # below that floats have fewer digits, and a step may be larger
        assert float(steps.max()) <= 0.5001
        assert bool((bytes.abs().amax(summed or [0], keepdim=True).amax() == 127).all())
    again, same = round_off(wide, channels)
    assert size < 1e-30 or torch.equal(again, bytes)
    assert size < 1e-30 or torch.allclose(same, scale, rtol=1e-6)


def test_a_channel_of_zeros_stays_zeros() -> None:
    weight = torch.tensor([[0.0, -0.0], [2.0, -1.0], [1e-45, 0.0]])
    bytes, scale = round_off(weight, [0])
    assert bytes.tolist() == [[0, 0], [127, -64], [0, 0]]
    assert torch.equal(widen(bytes, scale)[0], torch.zeros(2))

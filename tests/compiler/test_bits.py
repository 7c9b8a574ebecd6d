from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from frostline.compiler.bits import pack, unpack

shapes = st.tuples(st.integers(1, 5), st.integers(1, 70), st.lists(st.integers(1, 3), max_size=3)).map(
    lambda s: (s[0], s[1], *s[2])
)


@given(shapes, st.integers(0, 2**32))
def test_signs_survive_packing(shape: tuple[int, ...], seed: int) -> None:
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    assert torch.equal(unpack(pack(signs), shape[1]), signs)


@given(shapes)
def test_one_bit_a_weight_padded_to_words_of_32(shape: tuple[int, ...]) -> None:
    bits = pack(torch.ones(shape))
    assert bits.dtype == torch.uint8
    assert bits.shape == (shape[0], *shape[2:], -(-shape[1] // 32) * 4)


def test_the_first_input_is_the_lowest_bit_and_zero_is_plus_one() -> None:
    assert pack(torch.tensor([[0.0, -1, -1, -1, -1, -1, -1, -1, 0.5]])).tolist() == [[1, 1, 0, 0]]

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frostline.compiler.masks import Mask, binarize
from frostline.schedules import Surrogate

U = [-2.0, -0.5, 0.0, 0.5, 2.0]


def masked(frozen: Surrogate, mask: list[bool]) -> tuple[Tensor, Tensor]:
    """The masked values of U, and their gradient."""
    module = Mask((5,), frozen)
    module.mask.copy_(torch.tensor(mask))
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
    assert Mask((2,), "clipped")(torch.ones(2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("frozen", ["none", "identity", "clipped"])
def test_unfrozen_entries_are_clipped_and_their_gradient_is_clip_s(frozen: Surrogate) -> None:
    value, gradient = masked(frozen, [False] * 5)
    assert value.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert gradient.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("frozen", "expected"), [("none", [0, 0, 0, 0, 0]), ("identity", [1, 1, 1, 1, 1]), ("clipped", [0, 1, 1, 1, 0])]
)
def test_frozen_entries_are_binary_and_their_gradient_is_the_surrogate_s(
    frozen: Surrogate, expected: list[int]
) -> None:
    value, gradient = masked(frozen, [True] * 5)
    assert value.tolist() == [-1, -1, 1, 1, 1]
    assert gradient.tolist() == expected


def test_the_surrogate_is_for_frozen_entries_only() -> None:
    value, gradient = masked("identity", [True, False, True, False, False])
    assert value.tolist() == [-1, -0.5, 1, 0.5, 1]
    assert gradient.tolist() == [1, 1, 1, 1, 0]


def test_a_mask_is_no_part_of_the_state() -> None:
    assert not Mask((3,), "none").state_dict()


def test_the_batch_shares_a_mask() -> None:
    module = Mask((2,), "none")
    module.mask.copy_(torch.tensor([True, False]))
    assert module(torch.full((3, 2), 0.25)).tolist() == [[1, 0.25]] * 3

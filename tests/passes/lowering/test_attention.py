from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from frostline.passes.lowering.attention import attend

Q, K, V = (torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
MASK = torch.rand(5, 5, generator=torch.Generator().manual_seed(3)) > 0.5
MASK[2] = False  # a query that may look at nothing


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": MASK}, {"attn_mask": torch.randn(2, 1, 5, 5)}],
    ids=["plain", "causal", "scaled", "masked", "biased"],
)
def test_it_is_torch_s_attention(options: dict[str, object]) -> None:
    expected = functional.scaled_dot_product_attention(Q, K, V, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(attend(Q, K, V, **options), expected)  # type: ignore[arg-type]


def test_heads_that_share_keys_and_values() -> None:
    expected = functional.scaled_dot_product_attention(Q, K[:, :2], V[:, :2], enable_gqa=True)
    torch.testing.assert_close(attend(Q, K[:, :2], V[:, :2], enable_gqa=True), expected)

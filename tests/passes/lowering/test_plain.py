from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.errors import LoweringError
from frostline.passes.lowering.plain import InPlainOperations, attend, embedding_bag, grouped_mm, histc

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


def test_products_of_groups_of_rows() -> None:
    rows, matrices = torch.randn(9, 8), torch.randn(4, 8, 16)
    offs = torch.tensor([2, 2, 5, 8], dtype=torch.int32)
    expected = functional.grouped_mm(rows, matrices, offs=offs)
    actual = grouped_mm(rows, matrices, offs)
    torch.testing.assert_close(actual[:8], expected[:8])
    assert actual[8].tolist() == [0] * 16  # torch leaves open what stands after the last group
    assert torch.equal(grouped_mm(matrices, matrices.mT), matrices @ matrices.mT)


@pytest.mark.parametrize(("bins", "low", "high"), [(4, 0, 3), (7, -1, 1), (5, 0, 0), (1, 2, 3), (4, 2, 2)])
def test_histograms(bins: int, low: float, high: float) -> None:
    values = torch.cat([torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.arange(-3.0, 5.0)])
    for given in (values, torch.full((5,), 2.5)):
        assert torch.equal(histc(given, bins, low, high), torch.histc(given, bins, low, high))


GENERATOR = torch.Generator().manual_seed(1)
WIDE = torch.randn(2, 3, 7, 5, generator=GENERATOR)
TABLE = torch.randn(20, 4, generator=GENERATOR)
TOKENS, BAGS = torch.randint(0, 20, (9,), generator=GENERATOR), torch.tensor([0, 2, 2, 6])


@pytest.mark.parametrize(
    "call",
    [
        *(lambda p=p: torch.cdist(WIDE, WIDE[:, :, :4] + 1, p) for p in (0.0, 1.0, 2.0, 3.5, float("inf"))),
        *(lambda d=d: WIDE.cumprod(d) for d in (0, -1)),
        lambda: torch.cumprod(TOKENS, 0),
        lambda: functional.silu(50 * WIDE).sign(),
        lambda: nn.SiLU(inplace=True)(WIDE.clone()),
        lambda: functional.adaptive_max_pool1d(WIDE[0], 3),
        lambda: nn.AdaptiveMaxPool2d((3, 4))(WIDE),
        lambda: functional.adaptive_max_pool3d(WIDE, (2, 7, 1)),
        *(lambda m=m: functional.embedding_bag(TOKENS, TABLE, BAGS, mode=m) for m in ("sum", "mean", "max")),
        lambda: functional.embedding_bag(TOKENS[:8].view(2, 4), TABLE),
        lambda: functional.embedding_bag(TOKENS, TABLE, BAGS, mode="mean", padding_idx=int(TOKENS[3])),
        lambda: functional.embedding_bag(TOKENS, TABLE, BAGS, mode="sum", per_sample_weights=TABLE[:9, 0]),
        lambda: functional.embedding_bag(TOKENS, TABLE, torch.tensor([0, 2, 9]), include_last_offset=True),
        lambda: functional.embedding_bag(TOKENS, TABLE, BAGS, padding_idx=int(TOKENS[3]) - 20),
    ],
)
def test_whoever_calls_them(call: Callable[[], Tensor]) -> None:
    expected = call()
    with InPlainOperations():
        actual = call()
    torch.testing.assert_close(actual, expected)


def test_what_no_file_can_hold_is_refused() -> None:
    with pytest.raises(LoweringError, match="grouped_mm of groups that are no rows"):
        grouped_mm(torch.ones(8, 8), torch.ones(8, 16), torch.tensor([4, 8]))
    with pytest.raises(LoweringError, match="embedding_bag with max_norm"):
        embedding_bag(TOKENS, TABLE, BAGS, max_norm=1.0)

from __future__ import annotations

import pytest
import torch

import frostline as fl
from frostline.compiler.plan_digest import digest
from tests.models.small import chain, spec


def digest_of(total: int = 12, **edits: object) -> str:
    return digest(fl.plan(spec(**edits), fl.sites(fl.capture(chain(), (torch.zeros(2, 3, 8, 8),))), total))


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert digest_of() == "f916051261b2e672"


def test_spelling_does_not_count() -> None:
    assert digest_of(progression__warmup=6) == digest_of(progression__warmup="50%")
    assert digest_of(batch_norm={"reestimate": 3}) == digest_of()


@pytest.mark.parametrize(
    "edits",
    [
        {"seed": 1},
        {"total": 13},
        {"progression__hold": True},
        {"progression__order": "reverse"},
        {"progression__curve": {"kind": "linear"}},
        {"progression__refresh": {"rate": 5}},
        {"progression__per": "channel"},
        {"gradient__frozen": "clipped"},
        {"gradient__tail": "clipped"},
        {"binarize__scale": "channel"},
        {"binarize__keep_float": ["first"]},
        {"overrides": [{"sites": "*.activation", "levels": [0, 1]}]},
    ],
)
def test_all_that_changes_a_mask_counts(edits: dict[str, object]) -> None:
    assert digest_of(**edits) != digest_of()  # type: ignore[arg-type]

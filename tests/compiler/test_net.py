from __future__ import annotations

from typing import Any

import torch
from torch import nn

from frostline.compiler.net import duplicate


def test_a_duplicate_copies_what_was_computed_wherever_it_is_kept() -> None:
    model = nn.Linear(2, 2)
    computed = model.weight * 2
    model.kept = {"list": [computed], "same": computed}  # type: ignore[assignment]
    kept: Any = duplicate(model).kept
    assert kept["same"] is kept["list"][0]
    assert torch.equal(kept["same"], computed)
    assert not kept["same"].requires_grad

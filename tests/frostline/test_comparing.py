from __future__ import annotations

import torch
from torch import nn

import frostline as fl
from frostline.comparing import Comparison, Difference


def compared(**edits: object) -> Comparison:
    model = nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(), nn.Linear(6, 5), nn.Hardtanh(), nn.Linear(5, 3))
    one = fl.edit_spec(fl.load_spec("stompp"), {"binarize.keep_float": ["first"], "progression.warmup": 0})
    other = fl.edit_spec(one, {name.replace("__", "."): value for name, value in edits.items()})
    example = (torch.randn(2, 4),)
    return fl.compare(*(fl.compile(model, spec, example, total_steps=100).plan for spec in (one, other)))


def test_a_plan_is_what_it_is() -> None:
    assert compared() == Comparison((), (), (), 4)
    assert str(compared()) == "the other plan is the same: 4 sites turn alike"


def test_other_windows() -> None:
    found = compared(progression__order="reverse")
    assert found.fields == (Difference("progression.order", "forward", "reverse"),)
    assert found.windows == (
        Difference("depth 2", "[0, 45)", "[45, 90)"),
        Difference("depth 3", "[45, 90)", "[0, 45)"),
    )
    assert [(one.what, one.one, one.other) for one in found.sites[:1]] == [("2.activation", "[0, 45)", "[45, 90)")]


def test_another_site_and_another_curve_for_one() -> None:
    overrides = [{"sites": "4.weight", "curve": {"kind": "cosine"}}]
    found = compared(binarize__keep_float=["first", "2.weight"], overrides=overrides)
    assert found.alike == 2
    assert found.sites == (
        Difference("2.weight", found.sites[0].one, "float"),
        Difference("4.weight", "curve power 3", "curve cosine"),
    )
    assert found.sites[0].one.startswith("[0, 45), curve power 3, mask per element")
    assert str(found).splitlines()[0] == "against the other plan: 2 sites turn otherwise, 2 alike"
    assert "4.weight  curve power 3" in str(found)

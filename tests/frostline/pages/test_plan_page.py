from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from examples.digits.network import residual
from frostline.amounts import amounts
from frostline.pages.plan_page import plan_facts
from frostline.pages.wiring import INPUT, OUTPUT, wiring

Open = Callable[..., Any]


def program(model: nn.Module, *shape: int, spec: str = "stompp", steps: int = 1000, **edits: object) -> fl.Program:
    edited = fl.edit_spec(fl.load_spec(spec), {name.replace("__", "."): value for name, value in edits.items()})
    return fl.compile(model, edited, (torch.randn(2, *shape),), total_steps=steps)


def digits(**edits: object) -> fl.Program:
    return program(residual(depth=8), 1, 8, 8, **edits)  # type: ignore[arg-type]


def tip(page: Any) -> str:
    return str(page.locator("#tip").inner_text())


def test_every_site_is_there_and_says_what_it_is_when_pointed_at(opened: Open, tmp_path: Path) -> None:
    plan = digits()
    fl.draw(plan, tmp_path / "plan.html")
    page = opened(tmp_path / "plan.html")
    shown = {mark.get_attribute("data-site") for mark in page.locator("#model [data-site]").all()}
    assert shown == {operand.name for site in plan.sites for operand in site.operands}
    assert not page.locator("#tip").is_visible()
    page.locator('#model [data-site="body.1.conv1.weight"]').hover()
    site = next(site for site in plan.sites if site.name == "body.1.conv1.weight")
    lines = tip(page).splitlines()
    assert lines[:2] == ["body.1.conv1.weight", "weight, shape 12x12x3x3, 1,296 entries"]
    assert lines[-1] == site.where
    page.locator('#model [data-site="stem.0.weight"]').hover()
    assert "stays float: keep_float: first" in tip(page)
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.locator('#model [data-site="head.2.activation"]').focus()
    assert "stays float: keep_float: last" in tip(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened: Open, tmp_path: Path, scheme: str) -> None:
    fl.draw(digits(), tmp_path / "plan.html")
    page = opened(tmp_path / "plan.html", scheme)
    names = ("text", "soft", "card")
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    text, soft, card = (page.evaluate(f"{style}('--{name}').trim()") for name in names)
    assert contrast(text, card) > 12
    assert contrast(soft, card) > 4.5  # what WCAG asks of text


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, by the formula of WCAG 2."""
    lights = []
    for colour in (one, other):
        parts = [part / 255 for part in bytes.fromhex(colour.removeprefix("#"))]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_page_tells_two_plans_apart(opened: Open, tmp_path: Path) -> None:
    one, other = digits(), digits(progression__order="reverse")
    fl.draw(one, tmp_path / "plan.html", other)
    page = opened(tmp_path / "plan.html")
    text = page.locator("#comparison").inner_text()
    assert f"{len(one.plan.turns)} sites turn otherwise, 0 alike" in text
    assert "progression.order" in text
    assert page.locator("#progression .other").count() == 2 * 8


def test_a_warning_is_seen(opened: Open, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Hardtanh(), nn.Linear(6, 3))
    fl.draw(program(model, 4), tmp_path / "plan.html")
    page = opened(tmp_path / "plan.html")
    assert "2.activation" in page.locator("#warnings").inner_text()


def test_a_big_model_stays_readable(opened: Open, tmp_path: Path) -> None:
    layers = [module for _ in range(200) for module in (nn.Linear(4, 4), nn.Hardtanh())]
    fl.draw(program(nn.Sequential(*layers), 4), tmp_path / "plan.html")
    page = opened(tmp_path / "plan.html")
    assert page.locator("#model .row").count() == 200
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [label.bounding_box() for label in page.locator("#progression .depth").all()]
    assert len(boxes) > 5
    assert all(above["y"] + above["height"] <= below["y"] for above, below in pairwise(boxes))


class Named(nn.Module):
    """A module whose name is markup."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("<b onclick='x()'>", nn.Linear(4, 4))
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(getattr(self, "<b onclick='x()'>")(x)))


def test_names_are_text_and_never_markup(opened: Open, tmp_path: Path) -> None:
    fl.draw(program(Named(), 4, binarize__keep_float=[]), tmp_path / "plan.html")
    page = opened(tmp_path / "plan.html")
    assert page.locator("b[onclick]").count() == 0
    assert "<b onclick='x()'>.weight" in page.locator("#sites").text_content()


def test_edges_go_through_operations_and_additions() -> None:
    made = digits()
    found = wiring(made.graph, amounts(made))
    readers: dict[str, set[str]] = {}
    for source, reader in found.edges:
        readers.setdefault(source, set()).add(reader)
    joins = {join.key: join.label for join in found.joins}
    assert set(joins.values()) == {"add"}
    assert len(joins) == 4
    (start,) = readers[INPUT]
    assert start == "stem.0"
    (first,) = readers["body.0.conv2"]
    assert readers["stem.0"] == {"body.0.conv1", first}
    assert {"body.2.conv1", "body.2.downsample.0"} in readers.values()
    assert readers["head.2"] == {OUTPUT}


def test_what_turns_otherwise_in_one_depth_has_a_lane_of_its_own() -> None:
    facts = plan_facts(digits(progression__stages="activations_first"), None)
    bars = [bar for bar in facts["chart"].bars if bar.depth == 2]
    assert [bar.lane.names for bar in bars] == [("body.0.conv1.activation",), ("body.0.conv1.weight",)]
    assert bars[0].stop <= bars[1].start


def test_the_chart_alone_is_a_picture(tmp_path: Path) -> None:
    fl.draw(digits(), tmp_path / "plan.svg")
    assert "</svg>" in (tmp_path / "plan.svg").read_text()
    with pytest.raises(fl.FrostlineError, match=r"end it in \.html, \.png, \.svg, \.pdf"):
        fl.draw(digits(), tmp_path / "plan.bmp")

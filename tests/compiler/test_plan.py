from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import frostline as fl
from frostline.compiler.depths import Depths
from frostline.compiler.plan import Plan
from frostline.compiler.sites import Operand, Site
from frostline.errors import PlanError
from tests.models.bert import Bert
from tests.models.mobilenet import MobileNetV2
from tests.models.resnet import resnet18, resnet50
from tests.models.small import ZERO_ONE, Attention, Positive, Tied, chain, spec

CHAIN = fl.sites(fl.capture(chain(), (torch.zeros(2, 3, 8, 8),)))


def site(name: str, depth: int) -> Site:
    return Site(name, depth, "weight", (3,), None, (Operand(name, name, name, "weight", Depths(depth, depth, depth)),))


def windows(plan: Plan) -> list[tuple[str, int, int]]:
    return [(window.label, window.start, window.stop) for window in plan.windows]


def refused(*args: object, **kwargs: object) -> str:
    with pytest.raises(PlanError) as caught:
        fl.plan(*args, **kwargs)  # type: ignore[arg-type]
    return str(caught.value)


def test_forward_reverse_and_global_order() -> None:
    forward = [("depth 2", 0, 25), ("depth 3", 25, 50), ("depth 4", 50, 75), ("depth 5", 75, 100)]
    assert windows(fl.plan(spec(), CHAIN, 100)) == forward
    reverse = windows(fl.plan(spec(progression__order="reverse"), CHAIN, 100))
    assert [label for label, _, _ in reverse] == ["depth 5", "depth 4", "depth 3", "depth 2"]
    assert windows(fl.plan(spec(progression__order="global"), CHAIN, 100)) == [("all", 0, 100)]


def test_an_explicit_order_has_a_window_for_each_pattern() -> None:
    plan = fl.plan(spec(progression__order=["*.weight", "6.activation", "*"]), CHAIN, 90)
    assert windows(plan) == [("*.weight", 0, 30), ("6.activation", 30, 60), ("*", 60, 90)]
    assert [turn.site.name for turn in plan.windows[1].turns] == ["6.activation"]


def test_warm_up_and_tail_bound_the_windows() -> None:
    plan = fl.plan(spec(progression__warmup="10%", progression__tail="2 epochs"), CHAIN, 100, steps_per_epoch=5)
    assert windows(plan) == [("depth 2", 10, 30), ("depth 3", 30, 50), ("depth 4", 50, 70), ("depth 5", 70, 90)]


@given(st.integers(1, 40), st.integers(0, 500), st.integers(0, 50), st.integers(0, 50))
def test_windows_follow_one_another_without_gap_or_overlap(count: int, room: int, warmup: int, tail: int) -> None:
    sites = [site(f"s{depth}", depth) for depth in range(count)]
    total = count + room + warmup + tail
    plan = fl.plan(spec(progression__warmup=warmup, progression__tail=tail), sites, total)
    edges = [window.start for window in plan.windows] + [plan.windows[-1].stop]
    assert edges == sorted(set(edges))
    assert (edges[0], edges[-1]) == (warmup, total - tail)
    lengths = {stop - start for start, stop in pairwise(edges)}
    assert max(lengths) - min(lengths) <= 1
    assert all(a.stop == b.start for a, b in pairwise(plan.windows))


@given(st.integers(-5, 105))
def test_the_fraction_is_zero_before_the_window_and_one_after_it(step: int) -> None:
    turn = fl.plan(spec(), [site("a", 1), site("b", 2)], 100).turns[1]
    expected = 0.0 if step <= 50 else 1.0 if step >= 100 else ((step - 50) / 50) ** 3
    assert turn.fraction(step) == expected


def test_the_most_specific_override_wins() -> None:
    overrides = [
        {"sites": "3.weight", "curve": {"kind": "cosine"}},
        {"sites": "*", "curve": {"kind": "linear"}, "gradient": {"frozen": "clipped"}},
        {"sites": "*.weight", "refresh": {"rate": 7}},
    ]
    turns = {turn.site.name: turn for turn in fl.plan(spec(overrides=overrides), CHAIN, 100).turns}
    assert (turns["3.weight"].rule, str(turns["3.weight"].curve), turns["3.weight"].refresh) == (
        "3.weight",
        "cosine",
        7,
    )
    assert (turns["6.weight"].rule, str(turns["6.weight"].curve), turns["6.weight"].refresh) == (
        "*.weight",
        "linear",
        7,
    )
    assert (turns["6.activation"].rule, turns["6.activation"].refresh) == ("*", 4)
    assert {str(turn.gradient.frozen) for turn in turns.values()} == {"clipped"}


def test_what_stays_float_says_why() -> None:
    keep = ["first", "last", "*6.weight"]
    plan = fl.plan(spec(binarize__keep_float=keep, binarize__activations=False), CHAIN, 100)
    why = {kept.name: kept.why for kept in plan.kept_float}
    assert why["0.weight"] == "keep_float: first"
    assert why["6.weight"] == "keep_float: *6.weight"
    assert why["3.activation"] == "binarize.activations is false"
    assert {turn.site.kind for turn in plan.turns} == {"weight"}


def test_only_the_binary_readers_of_a_shared_activation_turn() -> None:
    sites = fl.sites(fl.capture(Attention(), (torch.zeros(2, 3, 8),)))
    plan = fl.plan(spec(binarize__keep_float=["first", "last", "q.*"]), sites, 100)
    shared = next(turn.site for turn in plan.turns if turn.site.name == "k.activation")
    assert [operand.operation for operand in shared.operands] == ["k", "v"]


LOPSIDED = fl.sites(fl.capture(Positive(), (torch.zeros(2, 3, 8),)))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("asap", {2: ["up", "short", "mix"], 3: ["down"]}),
        ("alap", {2: ["up"], 3: ["down", "short", "mix"]}),
        ("module", {1: ["up"], 2: ["down"], 4: ["short"], 5: ["mix"]}),
    ],
)
def test_the_windows_follow_the_rule_of_depth(rule: str, expected: dict[int, list[str]]) -> None:
    plan = fl.plan(spec(progression__depth=rule, binarize__activations=False), LOPSIDED, 100)
    found = {w.label: {turn.site.operands[0].operation for turn in w.turns} for w in plan.windows}
    assert found == {f"depth {depth}": set(operations) for depth, operations in expected.items()}
    assert [kept.name for kept in plan.kept_float if kept.why == "keep_float: first"] == [
        "embed.activation",
        "embed.weight",
    ]


def test_an_activation_turns_with_the_earliest_that_reads_it() -> None:
    turns = {turn.site.name: turn for turn in fl.plan(spec(progression__depth="alap"), LOPSIDED, 100).turns}
    assert [operand.operation for operand in turns["up.activation"].site.operands] == ["up", "short"]
    assert turns["up.activation"].site.depth == turns["up.weight"].site.depth == 2
    assert turns["short.weight"].site.depth == 3


def test_masks_have_the_shape_that_is_asked_for() -> None:
    overrides = [{"sites": "3.*", "per": "element"}]
    turns = {
        turn.site.name: turn for turn in fl.plan(spec(progression__per="channel", overrides=overrides), CHAIN, 90).turns
    }
    assert (turns["3.activation"].shape, turns["3.weight"].shape) == ((6, 8, 8), (6, 6, 3, 3))
    assert (turns["6.activation"].shape, turns["6.weight"].shape) == ((6, 1, 1), (6, 1, 1, 1))
    linear = {turn.site.name: turn for turn in fl.plan(spec(progression__per="channel"), LOPSIDED, 90).turns}
    assert (linear["up.activation"].shape, linear["up.weight"].shape) == ((8,), (16, 1))
    assert (linear["down.activation"].shape, linear["mix.activation"].shape) == ((16,), (3,))


class Crossed(nn.Module):
    """A convolution and a linear layer that read one activation, along different axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv1d(3, 4, 3), nn.Conv1d(4, 6, 3, padding=1)
        self.linear, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.conv(x) + self.linear(x).mean(1, keepdim=True))


def test_an_activation_without_one_axis_of_channels_has_no_masks_of_channels() -> None:
    sites = fl.sites(fl.capture(Crossed(), (torch.zeros(2, 3, 8),)))
    assert {turn.site.name for turn in fl.plan(spec(), sites, 100).turns} >= {"conv.activation"}
    text = refused(spec(progression__per="channel"), sites, 100)
    assert "conv.activation has no one axis of channels: it is read by conv, linear" in text
    mended = [{"sites": "conv.activation", "per": "element"}]
    assert fl.plan(spec(progression__per="channel", overrides=mended), sites, 100).turns
    alone = spec(progression__per="channel", binarize__keep_float=["linear.*", "last"])
    assert next(t for t in fl.plan(alone, sites, 100).turns if t.site.name == "conv.activation").shape == (4, 1)


def test_levels_on_a_weight_are_an_error_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        """version: 1
binarize: {weights: true, activations: true, keep_float: [first, last]}
gradient: {frozen: none}
progression:
  {order: forward, curve: {kind: linear}, refresh: {rate: 9}, warmup: 0, tail: 0}
overrides:
  - sites: "3.*"
    levels: [0, 1]
  - {sites: "6.*", levels: [-1, 1]}
seed: 0
"""
    )
    assert refused(fl.load_spec(path), CHAIN, 100) == (
        "the plan cannot be made\n"
        f"  {path}:8: 3.weight is a weight, and weights are -1 and +1\n"
        '    -> levels are for activations: narrow the pattern, as in "*.activation"'
    )


def test_zero_and_one_end_the_warning_of_what_is_never_negative() -> None:
    signs = fl.plan(spec(), LOPSIDED, 100)
    assert [site.name for site in signs.constant] == ["mix.activation", "down.activation"]
    assert "give them `levels: [0, 1]` in overrides" in str(signs)
    one = fl.plan(spec(overrides=[{"sites": "mix.activation", "levels": [0, 1]}]), LOPSIDED, 100)
    assert [site.name for site in one.constant] == ["down.activation"]
    both = fl.plan(spec(overrides=ZERO_ONE), LOPSIDED, 100)
    assert both.constant == ()
    assert "WARNING" not in str(both)


def test_the_text_of_a_plan_with_all_that_is_optional(golden: Callable[[str, str], None]) -> None:
    overrides = [
        {"sites": "mix.activation", "levels": [0, 1]},
        {"sites": "*.weight", "per": "element", "curve": {"kind": "linear"}},
    ]
    golden(
        "plan-positive",
        str(fl.plan(spec(progression__per="channel", progression__depth="alap", overrides=overrides), LOPSIDED, 900)),
    )


@pytest.mark.parametrize(
    ("name", "make", "shape"),
    [
        ("attention", Attention, (2, 3, 8)),
        ("tied", Tied, (2, 4)),
        ("resnet18", lambda: resnet18().to("meta"), (2, 3, 32, 32)),
        ("resnet50", lambda: resnet50().to("meta"), (2, 3, 32, 32)),
        ("mobilenet-v2", lambda: MobileNetV2().to("meta"), (2, 3, 224, 224)),
        ("bert-base", lambda: Bert().to("meta"), (2, 128)),
    ],
)
def test_the_text_of_a_plan(
    name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], golden: Callable[[str, str], None]
) -> None:
    model = make()
    device = next(model.parameters()).device
    tokens = torch.zeros(shape, dtype=torch.long, device=device)
    graph = fl.capture(model, (tokens, tokens) if name == "bert-base" else (torch.zeros(shape, device=device),))
    overrides = [{"sites": "*.weight", "curve": {"kind": "cosine"}}] if name == "attention" else []
    golden(f"plan-{name}", str(fl.plan(spec(overrides=overrides), fl.sites(graph), 10_000)))


def test_a_pattern_that_matches_nothing_is_an_error_with_the_line_and_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        """version: 1
binarize: {weights: true, activations: true, keep_float: [frist, last]}
gradient: {frozen: none}
progression:
  {order: ["3.*", "6.wieght", "*"], curve: {kind: linear}, refresh: {rate: 9}, warmup: 0, tail: 0}
overrides:
  - {sites: "layer9.*", refresh: {rate: 5}}
seed: 0
"""
    )
    text = refused(fl.load_spec(path), CHAIN, 100)
    assert f'{path}:2: "frist" matches no site\n    -> did you mean "first"?' in text
    assert f'{path}:5: "6.wieght" matches no site\n    -> did you mean "6.weight"' in text
    assert f'{path}:7: "layer9.*" matches no site' in text


def test_a_role_that_no_operation_has_is_named_but_no_error() -> None:
    assert fl.plan(spec(), CHAIN, 100).unmatched == ("downsample",)


def test_an_order_that_leaves_sites_out() -> None:
    assert "the order leaves out 3.activation" in refused(spec(progression__order=["*.weight"]), CHAIN, 100)


@pytest.mark.parametrize(
    ("edits", "steps", "message"),
    [
        ({"progression__warmup": 60, "progression__tail": 60}, 100, "leave 0 of 100 steps for 4 windows"),
        ({}, 3, "leave 3 of 3 steps for 4 windows"),
        ({}, 3, "-> each window takes a step at least: give the run more of them, or shorten warm-up or tail"),
        ({"progression__warmup": "1 epoch"}, 100, 'progression.warmup: "1 epochs" needs steps_per_epoch'),
        ({"progression__tail": "1 epoch"}, 100, "-> give it to compile; on the command line give --data"),
        ({}, 0, "total_steps is a positive whole number"),
        ({}, 10.0, "total_steps is a positive whole number"),
        ({"binarize__keep_float": ["*"]}, 100, "every site stays float: 0.activation (keep_float: *)"),
    ],
)
def test_a_plan_that_cannot_be(edits: dict[str, object], steps: int, message: str) -> None:
    assert message in refused(spec(**edits), CHAIN, steps)


def test_a_model_without_sites() -> None:
    assert "the model has no operation whose weight is a parameter" in refused(spec(binarize__keep_float=[]), [], 10)


def test_an_activation_that_is_never_negative_is_warned_of() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2),
    )  # fmt: skip
    plan = fl.plan(spec(), fl.sites(fl.capture(model, (torch.zeros(2, 3, 8, 8),))), 100)
    assert [site.name for site in plan.constant] == ["4.activation"]
    assert "WARNING: never negative" in str(plan)


def test_a_pattern_whose_sites_are_taken_or_stay_float_says_so() -> None:
    text = refused(spec(progression__order=["*", "3.*"]), CHAIN, 100)
    assert 'every site that "3.*" matches is taken by an entry before it' in text
    text = refused(spec(overrides=[{"sites": "0.*", "refresh": {"rate": 3}}]), CHAIN, 100)
    assert 'every site that "0.*" matches stays float' in text

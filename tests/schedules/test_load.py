from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import SpecError
from frostline.schedules import Override, ScheduleSpec, load_spec, read_spec

FULL = """\
version: 1
binarize: {weights: true, activations: true, keep_float: [first, last, downsample]}
gradient: {frozen: none}
progression:
  order: forward
  curve: {kind: power, exponent: 3}
  refresh: {rate: 100}
  warmup: 5%
  tail: 10%
overrides:
  - {sites: "layer4.*.activation", curve: {kind: cosine}}
seed: 0
"""


def test_the_spec_of_the_design() -> None:
    spec = read_spec(FULL)
    assert spec.binarize.keep_float == ("first", "last", "downsample")
    assert spec.progression.refresh.rate == 100
    assert str(spec.progression.warmup) == "5%"
    assert isinstance(spec.overrides[0], Override)
    assert str(spec.overrides[0].curve) == "cosine"


def test_what_is_left_out_beyond_the_paper_is_what_the_paper_does() -> None:
    progression = read_spec(FULL).progression
    assert (progression.per, progression.depth) == ("element", "asap")


def test_levels_and_portions_of_some_sites() -> None:
    spec = read_spec(replaced("curve: {kind: cosine}", "levels: [0, 1], per: channel"))
    assert (spec.overrides[0].levels, spec.overrides[0].per) == ((0, 1), "channel")


def test_a_field_knows_its_line(tmp_path: Path) -> None:
    path = tmp_path / "schedule.yaml"
    path.write_text(FULL)
    spec = load_spec(path)
    assert spec.where("progression", "tail") == f"{path}:9"
    assert spec.where("overrides", 0, "sites") == f"{path}:11"


def faults(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_spec(text, source="a.yaml")
    return [str(fault).strip() for fault in caught.value.offences]


def replaced(old: str, new: str) -> str:
    assert old in FULL
    return FULL.replace(old, new)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            replaced("rate: 100", "rate: 100, ratio: 3"),
            'a.yaml:7: unknown key "progression.refresh.ratio"\n    -> did you mean "rate"?',
        ),
        (replaced("version: 1", "version: 2"), 'a.yaml:1: "version": should be 1, got 2'),
        (replaced("version: 1", "version: true"), "a.yaml:1: \"version\": should be 1, got 'True'"),
        (replaced("warmup: 5%", "warmup: 90%"), 'a.yaml:4: "progression": warm-up and tail leave no room for a window'),
        (replaced("weights: true", "weights: 1"), 'a.yaml:2: "binarize.weights": should be a valid boolean, got 1'),
        (
            replaced("exponent: 3", "exponent: -3"),
            'a.yaml:6: "progression.curve.exponent": should be greater than 0, got -3',
        ),
        (
            replaced("exponent: 3", "exponent: .nan"),
            'a.yaml:6: "progression.curve.exponent": should be a finite number, got nan',
        ),
        (
            replaced("kind: power", "kind: powr"),
            'a.yaml:6: "progression.curve": there is no kind "powr"\n    -> did you mean "power"?',
        ),
        (
            replaced(", exponent: 3", ""),
            'a.yaml:6: "progression.curve.exponent" is missing\n    -> for example `exponent: 3`',
        ),
        (
            replaced("kind: cosine", "kind: cosine, exponent: 2"),
            'a.yaml:11: unknown key "overrides[0].curve.exponent"\n    -> this kind takes nothing beside its name',
        ),
        (
            replaced("rate: 100", "rate: 0"),
            'a.yaml:7: "progression.refresh.rate": a rate is a whole number from 1 to 1,000,000, or none, got 0',
        ),
        (replaced("seed: 0\n", ""), 'a.yaml:1: "seed" is missing\n    -> for example `seed: 0`'),
        (replaced("  tail: 10%\n", ""), 'a.yaml:4: "progression.tail" is missing\n    -> for example `tail: 10%`'),
        (replaced("tail: 10%", "tail: 110%"), "a.yaml:9: \"progression.tail\": a share cannot exceed 100%, got '110%'"),
        (replaced("seed: 0", "seed: 0\nseed: 1"), 'a.yaml:13: "seed" stands here twice\n    -> keep one of them'),
        (replaced("seed: 0", "seed: 0\n 1: {"), "a.yaml:13: mapping values are not allowed here"),
        (
            replaced("frozen: none", "frozen: null"),
            'a.yaml:3: "gradient.frozen": should be a mapping, got None\n    -> "none" is a word here: `frozen: none`',
        ),
        (
            replaced("order: forward", "order: sideways"),
            'a.yaml:5: "progression.order": an order is forward, reverse, global, or a list of name patterns, '
            "one window each, got 'sideways'",
        ),
        (
            replaced(", curve: {kind: cosine}", ""),
            'a.yaml:11: "overrides[0]": the override changes nothing: '
            "give it a curve, a refresh, a gradient, per, levels or scale",
        ),
        (
            replaced("curve: {kind: cosine}", "levels: {0, 1}"),
            "a.yaml:11: a key is one plain word\n    -> a list has square brackets",
        ),
        (
            replaced("curve: {kind: cosine}", "levels: [1, 0]"),
            'a.yaml:11: "overrides[0].levels": levels are [-1, 1] or [0, 1]',
        ),
        (
            replaced("curve: {kind: cosine}", "levels: [false, true]"),
            'a.yaml:11: "overrides[0].levels": levels are [-1, 1] or [0, 1]',
        ),
        (
            replaced("curve: {kind: cosine}", "per: pixel"),
            "a.yaml:11: \"overrides[0].per\": should be 'element' or 'channel', got 'pixel'",
        ),
        (
            replaced("warmup: 5%", "warmup: 5%\n  per: row"),
            "a.yaml:9: \"progression.per\": should be 'element' or 'channel', got 'row'",
        ),
        (
            replaced("order: forward", "order: forward\n  depth: deep"),
            "a.yaml:6: \"progression.depth\": should be 'asap', 'alap' or 'module', got 'deep'",
        ),
        (
            replaced("weights: true, activations: true", "weights: false, activations: false"),
            'a.yaml:2: "binarize": nothing would turn binary: set weights, activations or both to true',
        ),
        (
            replaced("frozen: none", "frozen: cliped"),
            'a.yaml:3: "gradient.frozen": there is no kind "cliped"\n    -> did you mean "clipped"?',
        ),
        (
            replaced("frozen: none", "frozen: {kind: none, sharpness: 2}"),
            'a.yaml:3: unknown key "gradient.frozen.sharpness"\n    -> this kind takes nothing beside its name',
        ),
        (
            replaced("frozen: none", "frozen: {kind: tanh, steep: 2, sharpness: 1}"),
            'a.yaml:3: unknown key "gradient.frozen.steep"\n    -> this kind takes sharpness beside its name',
        ),
        (
            replaced("frozen: none", "frozen: tanh"),
            'a.yaml:3: "gradient.frozen.sharpness" is missing\n    -> for example `sharpness: 2`',
        ),
        (
            replaced("frozen: none", "frozen: {kind: tanh, sharpness: {start: 0, stop: 2, curve: {kind: linear}}}"),
            'a.yaml:3: "gradient.frozen.sharpness.start": should be greater than or equal to 0.1, got 0',
        ),
        (
            replaced("frozen: none", "frozen: none, surrogate: clipped"),
            'a.yaml:3: unknown key "gradient.surrogate"',
        ),
        (
            replaced("order: forward", "order: forward\n  transition: sharpen"),
            'a.yaml:4: "progression": what sharpens has no mask: it takes `refresh: {rate: none}`, '
            "and neither per nor hold",
        ),
        ("- 1\n", "a.yaml:1: a spec is a mapping"),
        ("", "no fields\n    -> version: 1"),
        ("a: &x 1\nb: *x\n", "a.yaml:2: aliases are not part of a spec"),
        ("a: \x00", "a.yaml: unacceptable character #x0000: special characters are not allowed"),
    ],
)
def test_a_fault_has_its_line_and_a_remedy(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_every_fault_is_listed_at_once_in_the_order_of_the_lines() -> None:
    text = replaced("version: 1", "version: 7").replace("warmup: 5%", "warmup: soon").replace("seed: 0", "seed: zero")
    assert [fault.partition(" ")[0] for fault in faults(text)] == ["a.yaml:1:", "a.yaml:8:", "a.yaml:12:"]


@pytest.mark.parametrize("name", ["nothing.yaml", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec(tmp_path / name)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(SpecError, match="not a text file"):
        load_spec(tmp_path / "a.yaml")


@given(st.text() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s)).map(str))
def test_no_text_is_worse_than_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        read_spec(text)


def test_an_edited_spec_is_validated_again() -> None:
    spec = read_spec(FULL)
    assert fl.edit_spec(spec, {"progression.order": ["a.*", "*"]}).progression.order == ("a.*", "*")
    with pytest.raises(SpecError, match="should be greater than 0"):
        fl.edit_spec(spec, {"progression.curve.exponent": 0})
    with pytest.raises(SpecError, match='unknown key "nowhere"'):
        fl.edit_spec(spec, {"nowhere.at": 1})
    with pytest.raises(SpecError, match=r'"seed\.at" is not a field'):
        fl.edit_spec(spec, {"seed.at": 1})


@pytest.mark.parametrize("path", sorted(Path("schedules").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_specs_are_valid(path: Path) -> None:
    assert isinstance(load_spec(path), ScheduleSpec)


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", "!!int x", "!!set {a}"])
def test_a_value_that_yaml_cannot_make_is_refused(value: str) -> None:
    with pytest.raises(SpecError):
        read_spec(replaced("seed: 0", f"seed: {value}"))


@pytest.mark.parametrize("path", [None, 5, b"a.yaml"])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(SpecError, match="a spec is read from a path"):
        load_spec(path)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec("a\0b")


def test_a_folder_of_a_shipped_spec_s_name_is_not_in_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held").mkdir()
    assert load_spec("held").progression.hold


def test_an_edit_may_give_a_part_that_was_left_out() -> None:
    spec = fl.edit_spec(read_spec(FULL), {"batch_norm.reestimate": 3})
    assert spec.batch_norm is not None
    assert spec.batch_norm.reestimate == 3
    with pytest.raises(SpecError, match='unknown key "nothing"'):
        fl.edit_spec(spec, {"nothing.at_all": 3})


def test_specs_are_equal_that_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# from a file\n" + FULL)
    assert load_spec(tmp_path / "a.yaml") == read_spec(FULL)
    assert len({load_spec(tmp_path / "a.yaml"), read_spec(FULL)}) == 1
    assert fl.edit_spec(read_spec(FULL), {"seed": 1}) != read_spec(FULL)

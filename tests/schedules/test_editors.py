"""The schema that editors read: it stands in every shipped spec, explains every field, and says what load_spec says."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frostline.errors import SpecError
from frostline.schedules import load_spec
from frostline.schedules.load import spec_from_data
from tests.schedules.test_spec import specs

SCHEMA = Path("schedules/schema.json")
SHIPPED = sorted([*Path("schedules").glob("*.yaml"), *Path("examples").rglob("schedule.yaml")])
FULL: dict[str, Any] = yaml.safe_load(Path("tests/schedules/full.yaml").read_text())
schema: dict[str, Any] = json.loads(SCHEMA.read_text())
validator = jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_shipped_spec_begins_with_its_schema_and_fits_it(path: Path) -> None:
    line = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0])
    assert line is not None
    assert (path.parent / line[1]).resolve() == SCHEMA.resolve()
    validator.validate(yaml.safe_load(path.read_text()))
    load_spec(path)


def test_the_schema_is_one_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


PARTS: dict[str, Any] = {"spec": schema, **schema["$defs"]}
FIELDS = [(name, field) for name, part in PARTS.items() for field in part["properties"]]


@pytest.mark.parametrize(("part", "field"), FIELDS, ids=str)
def test_every_field_has_a_sentence_for_the_editor(part: str, field: str) -> None:
    described = PARTS[part]["properties"][field]
    if "description" not in described:
        described = PARTS[described["$ref"].rpartition("/")[2]]
    assert 10 < len(described["description"]) < 130
    assert described["description"].endswith(".")
    assert "\n" not in described["description"]


def enumerations(part: Any) -> Iterator[tuple[Any, ...]]:
    """The words that an editor offers."""
    if isinstance(part, dict):
        if "enum" in part:
            yield tuple(map(str, part["enum"]))
        for inner in part.values():
            yield from enumerations(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from enumerations(inner)


def test_words_are_offered_where_there_are_only_few() -> None:
    offered = set(enumerations(schema))
    assert {("forward", "reverse", "global"), ("asap", "alap", "module"), ("element", "channel")} <= offered
    assert {("depth", "block"), ("mask", "sharpen"), ("equal", "parameters"), ("none", "channel")} <= offered
    assert ("none", "identity", "clipped", "polynomial") in offered


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full spec with one value changed, added, or taken away (`...`)."""
    data = copy.deepcopy(FULL)
    part: Any = data
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in parents:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("verison", 1),
        ("version", 2),
        ("version", True),
        ("seed", ...),
        ("seed", -1),
        ("seed", "zero"),
        ("binarize.weights", 1),
        ("binarize.keep_float", "first"),
        ("binarize.keep_float", [1]),
        ("binarize.scale", "row"),
        ("gradient.frozen", "cliped"),
        ("gradient.frozen", "tanh"),
        ("gradient.frozen", {"kind": "tanh"}),
        ("gradient.frozen", None),
        ("progression.order", "sideways"),
        ("progression.order", []),
        ("progression.curve", "linear"),
        ("progression.curve", {"kind": "power"}),
        ("progression.curve", {"kind": "linear", "exponent": 3}),
        ("progression.curve.exponent", 0),
        ("progression.refresh", 100),
        ("progression.refresh.rate", 0.5),
        ("progression.warmup", "soon"),
        ("progression.warmup", -5),
        ("progression.hold", "yes"),
        ("progression.windows", [1, "a"]),
        ("overrides", {}),
        ("overrides.0.levels", [0, 2]),
        ("overrides.0.site", "*"),
        ("batch_norm.reestimate", 0),
    ],
)
def test_typical_mistakes_are_mistakes_for_both(path: str, value: Any) -> None:
    data = changed(path, value)
    assert not validator.is_valid(data)
    with pytest.raises(SpecError):
        spec_from_data(data)


# What a schema does not say: sums and combinations of fields, and that 1.0 is no whole number.
BEYOND = (
    "nothing would turn binary", "leave no room", "blocks are for the orders", "a list as order", "what sharpens has",
    "the override changes nothing", "a share cannot exceed", "a number of steps is a whole number",
    "should be a valid integer, got 10000000000.0",
)  # fmt: skip

odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -1, 3, 0.5, 1e10, 2**63, "", "none", "all", "5%", "101%", "1.5 steps", [], {}]
)
places = [
    "version", "seed", "binarize", "binarize.weights", "binarize.activations", "binarize.keep_float", "binarize.scale",
    "gradient", "gradient.frozen", "gradient.frozen.sharpness", "gradient.tail", "progression", "progression.order",
    "progression.depth", "progression.group", "progression.stages", "progression.transition", "progression.per",
    "progression.curve", "progression.curve.kind", "progression.curve.exponent", "progression.refresh.rate",
    "progression.windows", "progression.hold", "progression.warmup", "progression.tail", "overrides", "overrides.0",
    "overrides.0.sites", "overrides.0.levels", "overrides.0.gradient", "batch_norm", "batch_norm.reestimate", "other",
    "progression.other", "overrides.0.other",
]  # fmt: skip


def faults_of(data: object) -> list[str]:
    try:
        spec_from_data(data)
    except SpecError as error:
        return [offence.what for offence in error.offences]
    return []


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places), odd | st.lists(odd, max_size=2) | st.just(...))
@example("seed", 1e10)
def test_the_schema_and_the_loader_agree(path: str, value: Any) -> None:
    try:
        data = changed(path, value)
    except KeyError:
        return
    faults = faults_of(data)
    if validator.is_valid(data):
        assert all(any(what in fault for what in BEYOND) for fault in faults)
    else:
        assert faults


@settings(max_examples=50, deadline=None)
@given(specs)
def test_what_is_written_out_fits(data: dict[str, Any]) -> None:
    validator.validate(spec_from_data(data).as_data())


@pytest.mark.parametrize("path", ["version", "seed", "progression.refresh.rate", "progression.warmup"])
def test_a_float_is_no_whole_number_whatever_a_schema_says(path: str) -> None:
    assert validator.is_valid(changed(path, 1.0))
    assert faults_of(changed(path, 1.0))

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.errors import SpecError
from frostline.schedules import ScheduleSpec
from frostline.schedules.load import spec_from_data

durations = (
    st.integers(0, 1000) | st.integers(0, 49).map(lambda n: f"{n}%") | st.integers(0, 9).map(lambda n: f"{n} epochs")
)
curves = st.one_of(
    st.builds(lambda e: {"kind": "power", "exponent": e}, st.integers(1, 9)),
    st.builds(lambda e: {"kind": "flipped_power", "exponent": e}, st.floats(0.5, 9)),
    st.builds(lambda r: {"kind": "exponential", "rate": r}, st.floats(0.5, 20)),
    st.sampled_from([{"kind": "linear"}, {"kind": "cosine"}, {"kind": "instant"}]),
)
sharpnesses = st.floats(0.1, 10) | st.fixed_dictionaries(
    {"start": st.just(1), "stop": st.integers(2, 9), "curve": curves}
)
surrogates = st.sampled_from(["none", "identity", "clipped", "polynomial"]) | st.fixed_dictionaries(
    {"kind": st.sampled_from(["tanh", "reste"]), "sharpness": sharpnesses}
)
patterns = st.text("ab.*", min_size=1, max_size=5)
specs = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "binarize": st.fixed_dictionaries(
            {"weights": st.just(True), "activations": st.booleans(), "keep_float": st.lists(patterns, max_size=3)}
        ),
        "gradient": st.fixed_dictionaries({"frozen": surrogates}, optional={"tail": surrogates}),
        "progression": st.fixed_dictionaries(
            {
                "order": st.sampled_from(["forward", "reverse", "global"]) | st.lists(patterns, min_size=1, max_size=3),
                "curve": curves,
                "refresh": (st.integers(1, 1000) | st.just("none")).map(lambda r: {"rate": r}),
                "warmup": durations,
                "tail": durations,
            },
            optional={
                "per": st.sampled_from(["element", "channel"]),
                "depth": st.sampled_from(["asap", "alap", "module"]),
                "windows": st.sampled_from(["equal", "parameters", [1, 2.5]]),
                "hold": st.booleans(),
            },
        ),
        "overrides": st.lists(
            st.fixed_dictionaries(
                {"sites": patterns, "curve": curves},
                optional={
                    "per": st.sampled_from(["element", "channel"]),
                    "levels": st.sampled_from([[-1, 1], [0, 1]]),
                },
            ),
            max_size=2,
        ),
        "seed": st.integers(0, 2**63 - 1),
    }
)


@settings(deadline=None)
@given(specs)
def test_a_spec_survives_its_own_data(data: dict[str, object]) -> None:
    spec = spec_from_data(data)
    assert spec_from_data(spec.as_data()).as_data() == spec.as_data()
    assert spec_from_data(yaml.safe_load(json.dumps(spec.as_data()))).as_data() == spec.as_data()


@settings(deadline=None)
@given(specs)
def test_the_published_schema_takes_what_the_loader_takes(data: dict[str, object]) -> None:
    jsonschema.validate(data, ScheduleSpec.model_json_schema())


@pytest.mark.parametrize("path", sorted(Path("schedules").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_published_schema_takes_the_shipped_specs(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(Path("schedules/schema.json").read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"progression": {"warmup": "soon"}},
        {"progression": {"per": "pixel"}},
        {"progression": {"depth": 3}},
        {"progression": {"refresh": {"rate": 0}}},
        {"progression": {"windows": [1, 0]}},
        {"gradient": {"frozen": "tanh"}},
        {"gradient": {"frozen": {"kind": "none", "sharpness": 3}}},
        {"batch_norm": {"reestimate": 0}},
        {"overrides": [{"sites": "*", "levels": [0, 2]}]},
        {"overrides": [{"sites": "*", "levels": [1, 0]}]},
        {"overrides": [{"sites": "*", "levels": [0]}]},
    ],
)
def test_the_published_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    data = yaml.safe_load(Path("schedules/stompp.yaml").read_text())
    for name, part in wrong.items():
        data[name] = data.get(name, {}) | part if isinstance(part, dict) else part
    with pytest.raises(SpecError):
        spec_from_data(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, ScheduleSpec.model_json_schema())


def test_the_published_schema_is_the_code_s() -> None:
    """Mended by `frostline schema > schedules/schema.json`."""
    assert json.loads(Path("schedules/schema.json").read_text()) == ScheduleSpec.model_json_schema()

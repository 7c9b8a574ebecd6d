"""Texts that are almost specs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import SpecError
from frostline.schedules import read_spec
from tests.fuzz import seeds
from tests.fuzz.borders import only_our_errors, read_any_spec

GOOD = [text.decode() for text in seeds.specs()]
WORDS = (
    "&a", "*a", "<<:", "!!python/object/apply:os.system [x]", "!!int ''", "? ", "- ", "{", "}", "[", "]", ": ", "|",
    ">", "~", ".nan", "-.inf", "1e400", "0x" + "f" * 50, "1:30", "010", "9" * 30, "\t", "\r", "\0", "\ufeff", "\u2028",
    '"\\ud800"', '"\\UFFFFFFFF"', "%YAML 1.2\n---\n", "...\n", "---\n", "'", '"', "#", "\n", "kind", "sharpness",
)  # fmt: skip


@st.composite
def almost_specs(draw: st.DrawFn) -> str:
    """A good spec in which some places hold something else."""
    text = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(start + 12, len(text))))
        text = text[:start] + draw(st.sampled_from(WORDS) | st.text(max_size=5)) + text[stop:]
    return text


@settings(max_examples=80, deadline=None)
@given(almost_specs() | st.text())
def test_almost_specs(text: str) -> None:
    read_any_spec(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_bytes(content: bytes) -> None:
    read_any_spec(content)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 90_000,
        "? " * 40_000,
        "\n".join(" " * depth + "a:" for depth in range(400)),
        "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(100)),
        "x" * 10**7,
        "seed: " + "9" * 50_000,
        "seed: 0x" + "f" * 50_000,
        "".join(f"k{i}: 1\n" for i in range(9_000)),
        "overrides:\n" + "  - {sites: a}\n" * 5_000,
        "order: [" + "*a" * 10_000 + "]",
    ],
    ids=lambda text: text[:12],
)
def test_texts_without_end(text: str) -> None:
    with only_our_errors(), pytest.raises(SpecError) as caught:
        read_spec(text)
    assert len(str(caught.value)) < 20_000


def replaced(old: str, new: str) -> str:
    assert old in GOOD[0]
    return GOOD[0].replace(old, new)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("!!python/object/apply:os.system [touch pwned]", "a.yaml:1: tags are not part of a spec"),
        (replaced("seed: 0", "seed: !!int ''"), "a.yaml:12: tags are not part of a spec"),
        (replaced("seed: 0", "seed: 0\n<<: {seed: 1}"), 'a.yaml:13: unknown key "<<"'),
        (replaced("seed: 0", "seed: 0\n1: 2"), "a.yaml:13: a key is one plain word"),
        (replaced("seed: 0", "seed: 0\nnull: 2"), "a.yaml:13: a key is one plain word"),
        (replaced("seed: 0", 'seed: 0\n"a\\e[2J": 2'), "a.yaml:13: a word has no line breaks"),
        (replaced("order: forward", 'order: ["\\ud800"]'), "a.yaml:5: a word has no line breaks"),
        (replaced("seed: 0", "seed: " + "9" * 2000), "a.yaml:12: a word or number has at most 1,000 characters"),
        (replaced("seed: 0", "seed: " + "9" * 999), 'a.yaml:12: "seed": should be less than 9223372036854775808'),
        (replaced("exponent: 3", "exponent: 1e400"), 'a.yaml:6: "progression.curve.exponent": should be a finite'),
        (replaced("seed: 0", "seed: 1:30"), "a.yaml:12: \"seed\": should be a valid integer, got '1:30'"),
        (replaced("weights: true", "weights: yes"), 'a.yaml:2: "binarize.weights": should be a valid boolean, got'),
        (replaced("warmup: 5%", "warmup: ٥%"), 'a.yaml:8: "progression.warmup": a duration is'),
        ('"\\UFFFFFFFF"', "a.yaml: Python int too large"),
    ],
)
def test_what_a_spec_does_not_take(text: str, fault: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(text, "a.yaml")
    assert str(caught.value.offences[0]).strip().startswith(fault)


@pytest.mark.parametrize(("written", "seed"), [("010", 10), ("0x1f", 31), ("0o17", 15), ("+7", 7)])
def test_numbers_are_those_of_editors(written: str, seed: int) -> None:
    assert read_spec(replaced("seed: 0", f"seed: {written}")).seed == seed


def test_a_device_without_end_is_no_spec() -> None:
    with pytest.raises(SpecError, match="more than 100,000 characters"):
        fl.load_spec("/dev/zero")

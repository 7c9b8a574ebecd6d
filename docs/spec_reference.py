"""Write docs/spec-reference.md from schedules/schema.json: `python docs/spec_reference.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schedules" / "schema.json"
PAGE = ROOT / "docs" / "spec-reference.md"

_OPENING = """# Schedule specs, field by field

Made from `schedules/schema.json`, which `frostline schema` prints: do not edit this page. What the words mean,
with a spec that has them all, stands in [Writing a schedule](schedule.md). A field without a default has to be written.
"""

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_PLURALS = {"string": "strings", "number": "numbers", "integer": "integers"}


def page(schema: Mapping[str, Any]) -> str:
    """The whole page: the spec first, then what its fields are made of, by name."""
    parts = [_OPENING, *_section("The spec", schema)]
    for name, definition in sorted(schema["$defs"].items()):
        parts += _section(name, definition)
    return "\n".join(parts)


def _section(name: str, definition: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    text, _, examples = definition.get("description", "").partition("\n>>> ")
    yield text.strip().replace("*", r"\*") + "\n"
    if examples:
        yield f"```text\n>>> {examples.strip()}\n```\n"
    yield "| field | takes | default |"
    yield "|---|---|---|"
    required = definition.get("required", ())
    for field, taken in definition["properties"].items():
        default = "" if field in required else _written(taken["default"])
        yield f"| `{field}` | {_kind(taken)} | {default} |"
    yield ""


def _kind(taken: Mapping[str, Any]) -> str:
    """What a field takes, in words."""
    if "$ref" in taken:
        name = taken["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    choices = taken.get("anyOf", taken.get("oneOf"))
    if choices is not None:
        return " or ".join(_kind(each) for each in choices)
    if "const" in taken:
        return _written(taken["const"])
    if "enum" in taken:
        return ", ".join(map(_written, taken["enum"]))
    if taken["type"] == "array":
        items = taken["items"]
        name = _kind(items) if "$ref" in items else _PLURALS[items["type"]]
        return f"a list of {name}{_bounded(items)}"
    if taken["type"] == "string" and "pattern" in taken:
        return "`5%`, `100 steps`, `3 epochs` and their like"
    return f"{taken['type']}{_bounded(taken)}"


def _bounded(taken: Mapping[str, Any]) -> str:
    found = ((sign, taken[name]) for name, sign in _BOUNDS.items() if name in taken)
    return "".join(f", {sign} {int(bound) if bound == int(bound) else bound:,}" for sign, bound in found)


def _written(value: Any) -> str:
    """A value as it stands in a spec."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(SCHEMA.read_text(encoding="utf-8"))), encoding="utf-8")

"""From a YAML file to a spec, with the line of the file in every error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from frostline.errors import Offence, SpecError, nearest
from frostline.schedules.parsing import LONGEST, Path, dotted, parse
from frostline.schedules.spec import ScheduleSpec

_PAPER = {
    "version": "version: 1",
    "binarize": "binarize: {weights: true, activations: true, keep_float: [first, last, downsample]}",
    "weights": "weights: true",
    "activations": "activations: true",
    "keep_float": "keep_float: [first, last, downsample]",
    "gradient": "gradient: {frozen: none}",
    "frozen": "frozen: none",
    "progression": "progression: {order: forward, curve: {kind: power, exponent: 3}, "
    "refresh: {rate: 100}, warmup: 5%, tail: 10%}",
    "order": "order: forward",
    "curve": "curve: {kind: power, exponent: 3}",
    "kind": "kind: power",
    "exponent": "exponent: 3",
    "sharpness": "sharpness: 2",
    "refresh": "refresh: {rate: 100}",
    "rate": "rate: 100",
    "warmup": "warmup: 5%",
    "tail": "tail: 10%",
    "sites": 'sites: "layer4.*"',
    "seed": "seed: 0",
}


def load_spec(path: str | File) -> ScheduleSpec:
    """Read and validate a schedule spec file; or one that ships with frostline, by its name, such as `stompp-ste`.

    Raises SpecError, with every fault and its line, when the file cannot be read or is not a valid spec.
    """
    if not isinstance(path, str | File):
        raise SpecError(f"a spec is read from a path, or found by its name, not from a {type(path).__name__}")
    shipped = {file.stem: file for file in File(__file__).parent.glob("*.yaml")}
    path = File(path)
    if str(path) in shipped and not path.is_file():
        path = shipped[str(path)]
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)  # a device has no end
    except UnicodeDecodeError as error:
        raise SpecError(f"the spec {path} is not a text file in UTF-8") from error
    except (OSError, ValueError) as error:
        remedy = nearest(path.stem, shipped) or f"there are: {', '.join(sorted(shipped))}"
        ships = [Offence("no spec of this name ships with frostline", remedy=remedy)] if not path.suffix else []
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"cannot read the spec {path}: {reason}", ships) from error
    return read_spec(text, source=str(path))


def read_spec(text: str, source: str = "<spec>") -> ScheduleSpec:
    """Validate a spec given as YAML text; `source` names it in errors. Raises SpecError."""
    data, lines = parse(text, source)
    return _validate(data, source, lines)


def spec_from_data(data: object, source: str = "<spec>") -> ScheduleSpec:
    """Validate a spec given as plain data, as `ScheduleSpec.as_data` returns it. Raises SpecError."""
    return _validate(data, source, {})


def edit_spec(spec: ScheduleSpec, edits: Mapping[str, Any]) -> ScheduleSpec:
    """A new spec with some fields replaced, each named by its dotted path. Raises SpecError.

    >>> spec = read_spec('''
    ... version: 1
    ... binarize: {weights: true, activations: true, keep_float: [first, last]}
    ... gradient: {frozen: none}
    ... progression:
    ...   {order: forward, curve: {kind: linear}, refresh: {rate: 100}, warmup: 5%, tail: 10%}
    ... seed: 0
    ... ''')
    >>> edit_spec(spec, {"progression.order": "reverse"}).progression.order
    'reverse'
    """
    data = spec.as_data()
    for name, value in edits.items():
        *parents, last = str(name).split(".")
        part: Any = data
        for parent in parents:
            part = part.setdefault(parent, {}) if isinstance(part, dict) else None
        if not isinstance(part, dict):
            raise SpecError(f'"{name}" is not a field of a spec')
        part[last] = value
    return _validate(data, "<edited spec>", {})


def fields_of(data: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[str, Any]]:
    """The fields in the data of a spec, each by the dotted path that `edit_spec` takes; a list is one field."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from fields_of(value, (*path, key))
        else:
            yield dotted((*path, key)), value


def _validate(data: object, source: str, lines: dict[Path, str]) -> ScheduleSpec:
    if not isinstance(data, dict):
        raise SpecError(f"{source} is not a valid spec", [Offence("a spec is a mapping", lines.get(()))])
    try:
        spec = ScheduleSpec.model_validate(data)
    except ValidationError as error:
        faults = [_offence(detail, data, lines) for detail in error.errors(include_url=False)]
        raise SpecError(f"{source} is not a valid spec", sorted(faults, key=_line)) from None
    spec._lines.update(lines)
    return spec


def _offence(detail: ErrorDetails, data: object, lines: dict[Path, str]) -> Offence:
    path = _own_path(detail["loc"], data, keep_last=detail["type"] == "missing")
    where = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), None)
    name = dotted(path) or "the spec"
    match detail["type"]:
        case "missing":
            example = _PAPER.get(str(path[-1]))
            return Offence(f'"{name}" is missing', where, f"for example `{example}`" if example else None)
        case "union_tag_not_found":
            return Offence(f'"{name}" has no kind', where, "for example `{kind: power, exponent: 3}`")
        case "union_tag_invalid":
            known = [kind.strip(" '") for kind in detail.get("ctx", {})["expected_tags"].split(",")]
            tag = str(detail.get("ctx", {})["tag"])
            remedy = nearest(tag, known) or f"one of: {', '.join(known)}"
            return Offence(f'"{name}": there is no kind "{tag}"', where, remedy)
        case "extra_forbidden":
            known = _keys(path[:-1], data)
            others = ", ".join(key for key in known if key != "kind") or "nothing"
            kind = f"this kind takes {others} beside its name" if "kind" in known else None
            return Offence(f'unknown key "{name}"', where, nearest(str(path[-1]), known) or kind)
        case "model_attributes_type" | "model_type":
            detail["msg"] = "should be a mapping"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = detail["input"]
    shown = f", got {given!r}" if isinstance(given, str | int | float | None) and not _huge(given) else ""
    hint = '"none" is a word here: `frozen: none`' if given is None and path[-1:] == ("frozen",) else None
    return Offence(f'"{name}": {message}{shown}', where, hint)


def _huge(given: object) -> bool:
    """Whether a number has more digits than Python writes out."""
    return isinstance(given, int) and given.bit_length() > 10_000


def _line(fault: Offence) -> int:
    return int(fault.where.rpartition(":")[2]) if fault.where else 0


def _own_path(loc: Path, data: object, keep_last: bool) -> Path:
    """pydantic's location without the tags of unions, which stand in no file."""
    path: list[str | int] = []
    for position, key in enumerate(loc):
        inside = key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data))
        if inside:
            data = data[key]  # type: ignore[index]
        if inside or (keep_last and position == len(loc) - 1):
            path.append(key)
    return tuple(path)


def _keys(path: Path, data: object) -> list[str]:
    """The keys that the model at a path knows."""
    model: Any = ScheduleSpec
    for key in path:
        data = data[key] if isinstance(data, dict | list) else None  # type: ignore[index]
        if isinstance(key, int):
            continue
        models = [m for m in _models(model.model_fields[key].annotation) if _accepts(m, data)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _accepts(model: type[BaseModel], data: object) -> bool:
    kind = model.model_fields.get("kind")
    return kind is None or (isinstance(data, dict) and data.get("kind") in get_args(kind.annotation))

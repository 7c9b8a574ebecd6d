"""From the text of a YAML file to plain data, with the line of every field."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from frostline.errors import Offence, SpecError, first_line

Path = tuple[str | int, ...]

LONGEST = 100_000
"""The characters of a spec at most: as many as a thousand overrides have."""
_LONGEST_WORD = 1_000
_DEEPEST = 30

# The core schema of YAML 1.2, which editors read: `010` is ten, `yes` a word, `1:30` no number and `<<` no merging.
_FORMS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"~|null|Null|NULL|", lambda word: None),
    (r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true"),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+|0x[0-9a-fA-F]+", lambda word: int(word, 0)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda word: float(word.replace(".", ""))),
)


def parse(text: str, source: str) -> tuple[Any, dict[Path, str]]:
    """The data in a text, and `source:line` of each of its fields by their paths.

    No object is made but mappings, lists, words, numbers, truth values and None, and nothing is read twice. Raises
    SpecError with every fault that it finds.
    """
    if len(text) > LONGEST:
        raise SpecError(f"{source} is not a valid spec", [Offence(f"it has more than {LONGEST:,} characters")])
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise SpecError(f"{source} is not YAML", [Offence(error.problem or "syntax error", where)]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # numbers of characters and of versions, too large
        raise SpecError(f"{source} is not YAML", [Offence(first_line(error), source)]) from error
    if root is None:
        raise SpecError(f"the spec {source} is empty", [Offence("no fields", remedy="version: 1")])
    reading = _Reading(source)
    data = reading.value(root, ())
    if reading.faults:
        raise SpecError(f"{source} is not a valid spec", reading.faults)
    return data, reading.lines


class _Composer(yaml.SafeLoader):
    """Nodes without aliases and tags: a spec is read as it stands, and cannot blow up."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        start = event.start_mark
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases are not part of a spec", start)
        if event.tag is not None:
            raise yaml.MarkedYAMLError(None, None, "tags are not part of a spec", start)
        if self._depth == _DEEPEST:
            raise yaml.MarkedYAMLError(None, None, "nested too deeply", start)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


@dataclass
class _Reading:
    """Reads the values of nodes, and notes lines and faults."""

    source: str
    lines: dict[Path, str] = field(default_factory=dict)
    faults: list[Offence] = field(default_factory=list)

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, self._where(node))
        if isinstance(node, yaml.MappingNode):
            return {self._key(key, path): self.value(inner, (*path, str(key.value))) for key, inner in node.value}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _key(self, node: yaml.Node, path: Path) -> Any:
        word = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(word, str):
            self._fault(node, "a key is one plain word", "a list has square brackets")
        elif (*path, word) in self.lines:
            self._fault(node, f'"{dotted((*path, word))}" stands here twice', "keep one of them")
        self.lines[*path, str(node.value)] = self._where(node)
        return word

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        word: str = node.value
        if len(word) > _LONGEST_WORD:
            self._fault(node, f"a word or number has at most {_LONGEST_WORD:,} characters")
        elif not word.isprintable():
            self._fault(node, "a word has no line breaks, tabs or other signs that cannot be seen")
        elif node.style is None:
            return next((made(word) for form, made in _FORMS if re.fullmatch(form, word)), word)
        return word

    def _fault(self, node: yaml.Node, what: str, remedy: str | None = None) -> None:
        fault = Offence(what, self._where(node), remedy)
        if fault not in self.faults[-1:]:
            self.faults.append(fault)

    def _where(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"


def dotted(path: Path) -> str:
    """A path as users write it.

    >>> dotted(("overrides", 0, "sites"))
    'overrides[0].sites'
    """
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")

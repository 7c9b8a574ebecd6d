from __future__ import annotations

from pathlib import Path

import pytest

from examples import results
from frostline.errors import FileError, UsageError


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.jsonl"
    lines = [{"seed": 0, "binary": 0.5}, {"seed": 1, "binary": 0.75}]
    for line in lines:
        results.append(path, line)
    assert results.read(path, lambda line: line["binary"]) == lines


def test_every_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"seed": 0, "binary": 1}\n{"seed": 0}\nnonsense\n')
    with pytest.raises(FileError) as caught:
        results.read(path, lambda line: line["binary"])
    assert [fault.where for fault in caught.value.offences] == [f"{path}:2", f"{path}:3"]
    with pytest.raises(FileError, match="cannot read"):
        results.read(tmp_path / "missing.jsonl", bool)


def test_of_two_runs_of_a_seed_the_later_counts() -> None:
    lines = [{"seed": 1, "row": "a", "x": 1}, {"seed": 0, "row": "a", "x": 2}, {"seed": 1, "row": "a", "x": 3}]
    lines.append({"seed": 0, "row": "b", "x": 4})
    groups = results.by_seed(lines, lambda line: line["row"])
    assert [[line["x"] for line in group] for group in groups] == [[2, 3], [4]]


def test_a_table_replaces_the_one_that_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Results\n\n<!-- a -->\nold\n<!-- /a -->\n\nmore\n")
    results.insert(results.markdown(["x", "y"], [["1", "2"]]), path, "a")
    assert path.read_text() == "# Results\n\n<!-- a -->\n| x | y |\n| --- | --- |\n| 1 | 2 |\n<!-- /a -->\n\nmore\n"
    with pytest.raises(UsageError, match="has no place for the table"):
        results.insert("", path, "b")

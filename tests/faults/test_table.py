"""The table of docs/faults.md and the tests of this folder are of the same things."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.kills import PLACES

TABLE = Path("docs/faults.md").read_text()


def test_every_file_of_tests_has_a_row_and_every_row_a_file() -> None:
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert set(re.findall(r"tests/faults/(test_\w+\.py)", TABLE)) == files


def test_every_place_was_killed_and_nothing_was_lost() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|$", TABLE, re.M)
    assert [place for place, *_ in rows] == [*PLACES, "all"]
    assert all(runs == equal for _, runs, equal, _ in rows)
    assert rows[-1][1] == "50"

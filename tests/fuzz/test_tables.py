"""Tables of a probe that others wrote, drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import FileError
from tests.fuzz.borders import only_our_errors

HEAD = "step,depth,kind,site,start,stop,fraction,frozen,gradient,flips,loss,masked,binary\n"
ROW = ["0", "1", "weight", "a", "0", "9", "0.5", "0.5", "1.0", "0.1", "0.3", "0.9", "0.8"]
CELLS = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "1e308",
        "9" * 19,
        "9" * 400,
        "-" + "9" * 400,
        "9" * 5000,
        "$\\frac",
        '"',
        "\0",
        "٣",
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 12), CELLS), min_size=1, max_size=4))
def test_almost_tables(folder: Path, rows: list[tuple[int, str]]) -> None:
    lines = [[*ROW[:place], cell, *ROW[place + 1 :]] for place, cell in rows]
    (folder / "probe.csv").write_text(HEAD + "".join(",".join(line) + "\n" for line in lines))
    with only_our_errors():
        fl.draw(folder / "probe.csv", folder / "probe.svg")


def test_a_table_that_no_picture_shows(folder: Path) -> None:
    rows = (f"{n},{n},weight,s{n},{n},{n + 1},0.5,0.5,1.0,,0.3,0.9,0.8\n" for n in range(1001))
    (folder / "probe.csv").write_text(HEAD + "".join(rows))
    with pytest.raises(FileError, match="too large to be drawn"):
        fl.draw(folder / "probe.csv", folder / "probe.svg")

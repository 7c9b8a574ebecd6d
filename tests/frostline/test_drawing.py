from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import frostline as fl
from frostline.drawing import _figure
from frostline.errors import FileError, UsageError
from frostline.records import Record, write_records


def record(step: int, depth: int, gradient: float = 0.1, masked: float | None = 0.5, **edits: object) -> Record:
    """A row of a plan in which depth d turns in the ten steps up to step 10 d."""
    start, stop = 10 * (depth - 1), 10 * depth
    fraction = min(max((step - start) / 10, 0), 1)
    row = {
        "step": step, "depth": depth, "kind": "weight", "site": f"{depth}.weight", "start": start, "stop": stop,
        "fraction": fraction, "frozen": fraction, "gradient": gradient, "flips": None, "loss": 1.5, "masked": masked,
        "binary": None if masked is None else masked / 2,
    }  # fmt: skip
    return Record.model_validate(row | edits)


def table(path: Path, records: list[Record]) -> Path:
    write_records(path / "probe.csv", records)
    return path / "probe.csv"


def points(line: Any) -> Any:
    return line.get_xydata().tolist()


def values(mesh: Any) -> Any:
    """What a map shows, depth by step; masked where it shows nothing."""
    return mesh.get_array()


ROWS = [record(step, depth, gradient=depth * step / 100) for step in range(0, 40, 5) for depth in (1, 2, 3)]


def test_a_picture_has_the_documented_size(tmp_path: Path) -> None:
    fl.draw(table(tmp_path, ROWS), tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (1650, 1350)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "probe.csv"]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],
        [record(step, 1, gradient=0, masked=None) for step in (0, 5)],
        [record(0, 1, gradient=1e-300), record(0, 2, gradient=1e300), record(7, 2, gradient=0)],
        [record(1000 * step, depth, 0.2) for step in range(3) for depth in range(1, 60)],
    ],
    ids=["one row", "no gradient and no accuracy", "extremes and gaps", "many depths"],
)
def test_any_table_is_drawn(tmp_path: Path, rows: list[Record]) -> None:
    fl.draw(table(tmp_path, rows), tmp_path / "picture.svg")
    assert "</svg>" in (tmp_path / "picture.svg").read_text()


def test_three_panels_share_the_steps_and_say_what_they_show() -> None:
    sawtooth, blockade, progression = _figure(ROWS).axes[:3]
    assert [panel.get_xlim() for panel in (sawtooth, blockade, progression)] == [(0, 40)] * 3
    masked, binary = (points(line) for line in sawtooth.lines)
    assert masked == [[step, 0.5] for step in range(0, 40, 5)]
    assert binary == [[step, 0.25] for step in range(0, 40, 5)]
    arriving, blocked = map(values, blockade.collections)
    assert arriving.mask[:, 0].all()
    assert not blocked.mask[:, 0].any()
    assert arriving[:, 1:].max() == 3 * 35 / 100
    assert blocked[:, 1:].mask.all()
    assert values(progression.collections[0])[0].tolist() == [0, 0.5, 1, 1, 1, 1, 1, 1]
    assert [label.get_text() for label in blockade.get_yticklabels()] == ["1", "2", "3"]


def test_the_sites_of_a_depth_are_one_cell() -> None:
    rows = [record(0, 1, gradient=3), record(0, 1, gradient=4, site="a", kind="activation", fraction=0.5)]
    _, blockade, progression = _figure(rows).axes[:3]
    assert values(blockade.collections[0]).tolist() == [[5]]
    assert values(progression.collections[0]).tolist() == [[0.25]]


def test_the_users_own_style_stays(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 3, "figure.dpi": 17}):
        fl.draw(table(tmp_path, ROWS), tmp_path / "picture.png")
        assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["figure.dpi"]) == (3, 17)
    size = struct.unpack(">II", (tmp_path / "picture.png").read_bytes()[16:24])
    assert size == (1650, 1350)


DAMAGES = {
    "a cell that is no number": (
        lambda lines: [*lines[:3], lines[3].replace("1.5", "x"), *lines[4:]],
        ":4: loss is 'x'",
    ),
    "a share beyond 1": (lambda lines: [*lines[:2], lines[2].replace("0.25", "25")], ":3: binary is '25'"),
    "not a number": (lambda lines: [lines[0], lines[1].replace("1.5", "nan")], ":2: loss is 'nan'"),
    "a line cut short": (lambda lines: [*lines[:5], lines[5][:20]], ":6: fraction is missing"),
    "a cell too many": (lambda lines: [lines[0], lines[1] + ",1"], ":2: it has more cells than the first line"),
    "the same row twice": (lambda lines: [*lines, lines[4]], ":26: 1.weight has a row for step 5 already"),
    "another table": (lambda lines: ["a,b", "1,2"], ":1: its first line is not step,depth,kind,site"),
    "nothing": (lambda lines: [], ":1: its first line is not step,depth,kind,site"),
    "no row": (lambda lines: lines[:1], "it has no row"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_an_error_with_the_line(tmp_path: Path, damage: str) -> None:
    path = table(tmp_path, ROWS)
    damaged, message = DAMAGES[damage]
    path.write_text("\n".join(damaged(path.read_text().splitlines())))
    with pytest.raises(FileError) as error:
        fl.draw(path, tmp_path / "picture.png")
    assert message in str(error.value)
    assert not (tmp_path / "picture.png").exists()


def test_every_damaged_line_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, ROWS)
    path.write_text(path.read_text().replace("weight,2", "bias,2").replace(",1.5,", ",,"))
    with pytest.raises(FileError) as error:
        fl.draw(path, tmp_path / "picture.png")
    text = "\n".join(map(str, error.value.offences))
    assert f"{path}:3: kind is 'bias': input should be 'weight' or 'activation'" in text
    assert f"{path}:25: loss is '': input should be a valid number" in text


def test_what_is_no_text_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "probe.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="it is no text"):
        fl.draw(tmp_path / "probe.csv", tmp_path / "picture.png")


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'frostline\[plots\]'"):
        fl.draw(table(tmp_path, ROWS), tmp_path / "picture.png")


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end it in \.png, \.svg, \.pdf"):
        fl.draw(table(tmp_path, ROWS), tmp_path / "picture.gif")

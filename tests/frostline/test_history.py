from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import FileError
from frostline.history import Epoch, read_history, write_history

HISTORY = [
    Epoch(epoch=1, step=21, window="depth 2", loss=1.25, masked=0.8765432109876543, binary=0.5),
    Epoch(epoch=2, step=42, window="", loss=0.1 + 0.2, masked=0.9, binary=0.9),
]


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", HISTORY)
    assert read_history(tmp_path / "history.csv") == HISTORY
    first, *_ = (tmp_path / "history.csv").read_text().splitlines()
    assert first == "epoch,step,window,loss,masked,binary"


def test_every_damaged_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,step,window,loss,masked,binary\n1,21,depth 2,1.25,1.5,0.5\n2,-1,,0.3,0.9\n")
    with pytest.raises(FileError) as raised:
        read_history(path)
    assert str(raised.value).replace(str(tmp_path), "HERE") == (
        "HERE/history.csv is damaged\n"
        "  HERE/history.csv:2: masked is '1.5': input should be less than or equal to 1\n"
        "  HERE/history.csv:3: step is '-1': input should be greater than or equal to 0\n"
        "  HERE/history.csv:3: binary is missing"
    )


def test_another_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,step,window,loss,masked\n1,21,depth 2,1.25,0.5\n")
    with pytest.raises(FileError, match=r"history.csv:1: its first line is not epoch,step,window,loss,masked,binary"):
        read_history(path)


def test_a_file_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="cannot read"):
        read_history(path)

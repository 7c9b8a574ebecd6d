from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import CheckpointError, FileError

STATE = {"step": 7, "net": {"weight": torch.arange(6.0)}, "name": "a"}


def test_a_state_survives(tmp_path: Path) -> None:
    fl.save_checkpoint(tmp_path / "c.pt", STATE)
    loaded = fl.load_checkpoint(tmp_path / "c.pt")
    assert (loaded["step"], loaded["name"]) == (7, "a")
    assert torch.equal(loaded["net"]["weight"], torch.arange(6.0))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_damage_is_recognised(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("c") / "c.pt"
    fl.save_checkpoint(path, STATE)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[place:]
    else:
        raw[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint"):
        fl.load_checkpoint(path)


def test_a_file_that_is_missing_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        fl.load_checkpoint(tmp_path / "none.pt")
    torch.save(STATE, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of frostline"):
        fl.load_checkpoint(tmp_path / "other.pt")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        fl.save_checkpoint(tmp_path / "no" / "c.pt", STATE)


def test_a_state_that_could_not_be_read_back_is_refused_before_it_is_written(tmp_path: Path) -> None:
    fl.save_checkpoint(tmp_path / "c.pt", STATE)
    with pytest.raises(CheckpointError, match="the state holds what no checkpoint can"):
        fl.save_checkpoint(tmp_path / "c.pt", {"path": tmp_path})
    assert fl.load_checkpoint(tmp_path / "c.pt")["step"] == 7

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import frostline as fl
from frostline.errors import CheckpointError, FileError, UsageError

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


def test_what_cannot_be_pickled_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the state holds what no checkpoint can"):
        fl.save_checkpoint(tmp_path / "c.pt", {"function": lambda: 0})


def test_the_newest_few_stay(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path / "run", keep=3)
    assert checkpoints.latest() is None
    assert not checkpoints.paths
    for step in range(0, 50, 10):
        checkpoints.save(step, {"step": step})
    assert [path.name for path in checkpoints.paths] == [f"checkpoint-0000{step}.pt" for step in (20, 30, 40)]
    assert checkpoints.latest() == {"step": 40}


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("checkpoint.pt", "checkpoint-12.pt", "checkpoint-000009.pt.bak", "best.pt"):
        (tmp_path / name).write_text("mine")
    fl.Checkpoints(tmp_path, keep=1).save(1, {"step": 1})
    fl.Checkpoints(tmp_path, keep=1).save(2, {"step": 2})
    assert len(list(tmp_path.iterdir())) == 5
    assert fl.Checkpoints(tmp_path).latest() == {"step": 2}


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path)
    checkpoints.save(3, {"step": 3})
    checkpoints.save(3, {"step": 3, "again": True})
    assert checkpoints.latest() == {"step": 3, "again": True}


def test_a_folder_with_a_later_run_is_not_mixed_with_another(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path)
    checkpoints.save(30, {"step": 30})
    with pytest.raises(CheckpointError, match=r"holds checkpoint-000030\.pt already, which is of a later step than 10"):
        checkpoints.save(10, {"step": 10})
    assert checkpoints.latest() == {"step": 30}


def test_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep is the number of checkpoints that stay, from 1 on, not 0"):
        fl.Checkpoints(tmp_path, keep=0)
    for step in (-1, 1.5, True):
        with pytest.raises(UsageError, match="a step is a whole number from 0 on"):
            fl.Checkpoints(tmp_path).save(step, {})  # type: ignore[arg-type]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(CheckpointError, match="Not a directory"):
        fl.Checkpoints(tmp_path / "run").latest()
    with pytest.raises(FileError, match="cannot write"):
        fl.Checkpoints(tmp_path / "run").save(1, {})

"""Checkpoints that are damaged in every way: the one before is used, with a warning."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import frostline as fl
from frostline.errors import CheckpointError, FileError
from tests.faults.training import outcome, train


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """As some file systems leave a file after a loss of power."""
    path.write_bytes(bytes(path.stat().st_size))


def foreign(path: Path) -> None:
    torch.save({"step": 9}, path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (truncated, "is damaged: truncated or altered"),
    (flipped, "is damaged: truncated or altered"),
    (emptied, "is damaged: truncated or altered"),
    (zeroed, "is not a checkpoint of frostline"),
    (foreign, "is not a checkpoint of frostline"),
    (folder, "cannot read the checkpoint .*: Is a directory"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("whole")
    train(made)
    return made


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=lambda one: getattr(one, "__name__", None))
def test_the_one_before_a_damaged_one_is_used(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    checkpoints = fl.Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    damage(checkpoints.save(2, {"step": 2, "weight": torch.zeros(1000)}))
    with pytest.warns(UserWarning, match=rf"{message}; checkpoint-000001\.pt is used in its place"):
        assert checkpoints.latest() == {"step": 1}


def test_the_run_ends_in_the_same_bits(tmp_path: Path, whole: Path) -> None:
    for damage in (truncated, flipped, emptied, foreign):
        run = Path(shutil.copytree(whole, tmp_path / damage.__name__))
        damage(fl.Checkpoints(run).paths[-1])
        train(run)
        assert outcome(run) == outcome(whole)


def test_a_file_without_permission_is_passed_over() -> None:
    with open_to_all() as place:
        checkpoints = fl.Checkpoints(place / "run")
        checkpoints.save(1, {"step": 1}).chmod(0o644)
        checkpoints.save(2, {"step": 2}).chmod(0)
        (place / "run").chmod(0o755)
        with nobody(), pytest.warns(UserWarning, match=r"000002\.pt: Permission denied; .*000001\.pt is used"):
            assert checkpoints.latest() == {"step": 1}


def test_a_folder_without_permission_is_an_error_and_no_new_run() -> None:
    with open_to_all() as place:
        checkpoints = fl.Checkpoints(place / "run")
        checkpoints.save(1, {"step": 1})
        (place / "run").chmod(0)
        with nobody(), pytest.raises(CheckpointError, match=r"cannot read the folder .*run\n  Permission denied"):
            checkpoints.latest()
        (place / "run").chmod(0o555)
        with nobody(), pytest.raises(FileError, match=r"cannot write .*000002\.pt\n  Permission denied"):
            checkpoints.save(2, {"step": 2})
        (place / "run").chmod(0o755)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are for one."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103
        yield Path(name)


@contextmanager
def nobody() -> Iterator[None]:
    """Within this context permissions hold, for root too."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_all_are_named_where_none_is_good(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path, keep=3)
    paths = [checkpoints.save(step, {"step": step}) for step in (1, 2, 3)]
    for path, damage in zip(paths, (truncated, emptied, zeroed), strict=True):
        damage(path)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.latest()
    headline, *lines = str(caught.value).splitlines()
    assert headline == f"no checkpoint in {tmp_path} is good"
    names = [f"{tmp_path}/checkpoint-00000{step}.pt" for step in (3, 2, 1)]
    assert lines == [
        f"  {names[0]} is not a checkpoint of frostline",
        f"  the checkpoint {names[1]} is damaged: truncated or altered",
        f"  the checkpoint {names[2]} is damaged: truncated or altered",
        "    -> put a copy back, or empty the folder and start anew",
    ]


def test_a_damaged_one_never_counts_among_those_that_stay(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        path = checkpoints.save(step, {"step": step})
    emptied(path)
    checkpoints.save(4, {"step": 4})
    assert [path.name for path in checkpoints.paths] == ["checkpoint-000002.pt", "checkpoint-000004.pt"]


def test_a_damaged_one_of_a_later_step_is_replaced(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path)
    for step in (2, 4):
        path = checkpoints.save(step, {"step": step})
    emptied(path)
    checkpoints.save(3, {"step": 3})
    with pytest.warns(UserWarning, match=r"000003\.pt is used in its place"):
        assert checkpoints.latest() == {"step": 3}
    checkpoints.save(4, {"step": 4, "again": True})
    assert checkpoints.latest() == {"step": 4, "again": True}
    assert [path.name for path in checkpoints.paths] == ["checkpoint-000003.pt", "checkpoint-000004.pt"]


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f".checkpoint-00000{number}.pt.abcd123{number}.part").write_bytes(b"half")
    fl.Checkpoints(tmp_path).save(7, {"step": 7})
    assert os.listdir(tmp_path) == ["checkpoint-000007.pt"]

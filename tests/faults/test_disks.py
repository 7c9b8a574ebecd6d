"""Disks that are full, and files that may not grow."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import frostline as fl
from frostline.errors import FileError
from tests.faults.training import outcome, train

STATE = {"weight": list(range(20_000))}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB, where this user may mount one."""
    words = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(words, capture_output=True).returncode:  # noqa: S603
        pytest.skip("a disk of its own takes the right to mount one")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)  # noqa: S603, S607


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Within this context the kernel refuses to let a file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(disk: Path) -> Path:
    """Take all but 20 kB of a disk."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(free - 20_000))
    return disk / "filler"


def test_a_disk_that_is_full_while_a_checkpoint_is_written(disk: Path) -> None:
    checkpoints = fl.Checkpoints(disk / "run")
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2})
    filler = fill(disk)
    with pytest.raises(FileError, match=r"cannot write .*checkpoint-000003\.pt\n  No space left on device"):
        checkpoints.save(3, {"step": 3, **STATE})
    assert sorted(os.listdir(disk / "run")) == ["checkpoint-000001.pt", "checkpoint-000002.pt"]
    assert checkpoints.latest() == {"step": 2}
    filler.unlink()
    checkpoints.save(3, {"step": 3, **STATE})
    assert checkpoints.latest() == {"step": 3, **STATE}


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = tmp_path_factory.mktemp("whole")
    train(whole)
    (disk / "run").mkdir()
    filler = fill(disk)
    with pytest.raises(FileError, match="No space left on device"):
        train(disk / "run")
    assert not list((disk / "run").glob(".*"))
    filler.unlink()
    train(disk / "run")
    assert outcome(disk / "run") == outcome(whole)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    with no_file_beyond(20_000), pytest.raises(FileError, match=r"checkpoint-000002\.pt\n  File too large"):
        checkpoints.save(2, STATE)
    assert os.listdir(tmp_path) == ["checkpoint-000001.pt"]


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    checkpoints = fl.Checkpoints(tmp_path / "run")
    checkpoints.save(1, {"step": 1}).unlink()
    (tmp_path / "run").rmdir()
    checkpoints.save(2, {"step": 2})
    assert checkpoints.latest() == {"step": 2}

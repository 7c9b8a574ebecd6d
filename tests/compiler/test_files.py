from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from frostline.compiler.files import replacing
from frostline.errors import FileError


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as part:
        part.write_text("new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_when_anything_fails_the_old_file_stays(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "a") as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No space left"), replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"), replacing(tmp_path / "no" / "a"):
        pass


def test_a_folder_in_the_file_s_place(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="it is a folder"), replacing(tmp_path):
        pass

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.compiler.files import replacing, sweep
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


def test_what_nobody_writes_any_more_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".a.01234567.part").write_text("half")
    (tmp_path / ".b.01234567.part").write_text("half")
    (tmp_path / ".a.part").write_text("of something else")
    with replacing(tmp_path / "a") as part:
        sweep(tmp_path, "a*")
        assert part.exists()
        assert {path.name for path in tmp_path.glob(".*")} == {part.name, ".b.01234567.part", ".a.part"}
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".a.part", "a"]


def test_a_part_is_being_written_while_its_process_lives(tmp_path: Path) -> None:
    code = "import sys, time; from frostline.compiler.files import replacing\n"
    code += "with replacing(sys.argv[1]) as part: print(part, flush=True); time.sleep(600)"
    words = [sys.executable, "-c", code, str(tmp_path / "a")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603
        assert writer.stdout is not None
        part = Path(writer.stdout.readline().strip())
        sweep(tmp_path)
        assert part.exists()
        writer.kill()
    assert part.exists()
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_where_files_cannot_be_locked_all_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".a.01234567.part").write_text("half")
    with replacing(tmp_path / "a") as part:
        part.write_text("new")
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".a.01234567.part", "a"]

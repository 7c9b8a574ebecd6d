from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from frostline.compiler.kernels import build
from frostline.errors import UsageError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that keeps libraries, and an empty PATH."""
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "cache"


def compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


WRITES = 'while [ "$1" != -o ]; do shift; done; echo built > "$2"'


def test_without_a_compiler_it_says_how_to_get_one(cache: Path) -> None:
    with pytest.raises(UsageError, match="there is no C\\+\\+ compiler") as caught:
        build.library()
    assert "apt install g++" in str(caught.value)
    assert "standard operators" in str(caught.value)
    assert not cache.exists()


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", "echo 'a.cpp:1: error: no such thing' >&2; exit 1"))
    with pytest.raises(UsageError, match="error: no such thing"):
        build.library()
    assert not list(cache.rglob("*"))[1:]


def test_it_is_built_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", WRITES))
    monkeypatch.setenv("PATH", os.defpath)
    path = build.library()
    assert path.read_text() == "built\n"
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", "exit 1"))
    assert build.library() == path


def test_another_compiler_makes_another_library(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    paths = set()
    for name in ("one", "two"):
        monkeypatch.setenv("CXX", compiler(tmp_path / name, WRITES))
        paths.add(build.library())
    assert len(paths) == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", WRITES))
    with pytest.raises(UsageError, match="FROSTLINE_CACHE"):
        build.library()


def test_a_compiler_that_is_named_but_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    for name in ("no-such-compiler -v", "'no-end"):
        monkeypatch.setenv("CXX", name)
        with pytest.raises(UsageError, match=f"there is no C\\+\\+ compiler `{name}`, which CXX names"):
            build.library()


def test_instructions_that_the_compiler_does_not_know_are_left_out(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'case "$*" in *vpopcntdq*) echo "error: unrecognized" >&2; exit 1;; esac; {WRITES}'
    monkeypatch.setenv("CXX", compiler(tmp_path / "old", script))
    monkeypatch.setenv("PATH", os.defpath)
    assert build.library().read_text() == "built\n"


def test_other_flags_make_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build._digest(["c++"])
    monkeypatch.setattr(build, "_INSTRUCTIONS", {"avx2": ("-mavx2", "-mfma")})
    assert build._digest(["c++"]) != before


def test_a_cache_in_which_no_file_can_be_made(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", WRITES))
    monkeypatch.setattr("frostline.compiler.files.tempfile.mkstemp", full)
    with pytest.raises(UsageError, match="No space left on device") as caught:
        build.library()
    assert "FROSTLINE_CACHE" in str(caught.value)


def test_a_user_without_a_home(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", WRITES))
    monkeypatch.delenv("FROSTLINE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="FROSTLINE_CACHE"):
        build.library()

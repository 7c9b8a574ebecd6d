from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import frostline
from frostline.compiler.capture.user_line import is_users


@pytest.mark.parametrize("name", ["runs.py", "compiler/graph.py", "passes/insert_masks.py", "schedules/load.py"])
def test_no_file_of_frostline_is_the_users(name: str) -> None:
    path = Path(frostline.__file__).parent / name
    assert path.is_file()
    assert not is_users(str(path))
    assert not is_users(str(path.resolve()))


def test_nor_one_of_torch_or_python_but_a_model_and_its_neighbours_are() -> None:
    assert not is_users(torch.__file__)
    assert not is_users(json.__file__)
    assert is_users(__file__)
    assert is_users(str(Path("examples/digits/network.py").absolute()))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds frostline as an installation does: files in the place of links."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(frostline.__file__).parent, site / "frostline", ignore=shutil.ignore_patterns("__pycache__"))
    return site


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("nett:build", "  ModuleNotFoundError: No module named 'nett'"),
        ("net:build", "  TypeError: build() missing 1 required positional argument: 'width'"),
        ("net:fails", "  net.py:6: ValueError: too wide"),
    ],
)
def test_an_installed_frostline_names_no_line_of_its_own(
    installed: Path, tmp_path: Path, factory: str, told: str
) -> None:
    (tmp_path / "net.py").write_text(
        "def build(width):\n    return width\n\n\ndef fails():\n    raise ValueError('too wide')\n"
    )
    words = ["plan", "stompp", "--model", factory, "--input", "2x4", "--steps", "9"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "frostline", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.splitlines()[1]) == (2, told)

"""Every block of the documents runs: python as it stands, bash by its `frostline` and `make` lines, yaml as a spec."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.schedules import read_spec

DOCUMENTS = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))]
BLOCKS = [
    pytest.param(language, text, id=f"{path.stem}-{index}-{language}")
    for path in DOCUMENTS
    for index, (language, text) in enumerate(re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.M | re.S))
]

WARNINGS = ("-W", "error", "-W", "ignore:`isinstance(treespec, LeafSpec)`:FutureWarning")
"""The second is torch.onnx.export's own."""


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_a_block_runs(language: str, text: str, tmp_path: Path) -> None:
    if language == "python":
        (tmp_path / "examples").symlink_to(Path("examples").absolute())
        subprocess.run([sys.executable, *WARNINGS, "-c", text], cwd=tmp_path, check=True)  # noqa: S603
    elif language == "yaml":
        read_spec(text)
    elif language == "bash":
        (tmp_path / "examples").symlink_to(Path("examples").absolute())
        script = "".join(line if not line.startswith("make") else "" for line in text.splitlines(keepends=True))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "error"}
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, check=True)  # noqa: S603, S607
        for target in re.findall(r"^make (\w+)", text, re.M):
            subprocess.run(["make", "--dry-run", target], check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607
    else:
        assert language == "text"


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / link).exists(), link

"""Runs that are killed. `python -m tests.faults.kills --count 50` does what the first test does, ten times as often."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import frostline as fl
from tests.faults.kills import PLACES


def test_runs_killed_anywhere_resume_to_the_bit() -> None:
    words = [sys.executable, "-m", "tests.faults.kills", "--count", str(len(PLACES))]
    done = subprocess.run(words, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {len(PLACES)} | {len(PLACES)} |" in done.stdout


def test_a_killed_command_goes_on_as_a_new_process(tmp_path: Path) -> None:
    factories = ["--model", "tests.models.factories:model", "--data", "tests.models.factories:data"]
    budget = ["--epochs", "40", "--lr", "0.05", "--checkpoint-every", "1"]
    words = [sys.executable, "-m", "frostline", "train", "schedules/stompp.yaml", *factories, *budget]

    def started(folder: Path) -> subprocess.Popen[str]:
        return subprocess.Popen([*words, "--run", str(folder)], stdout=subprocess.PIPE, text=True)  # noqa: S603

    with started(tmp_path / "whole") as whole, started(tmp_path / "parts") as parts:
        while len(fl.Checkpoints(tmp_path / "parts").paths) < 2 and parts.poll() is None:
            time.sleep(0.01)
        parts.kill()
        assert parts.wait() == -signal.SIGKILL
        assert whole.communicate()[0]
    with started(tmp_path / "parts") as again:
        assert f"{tmp_path / 'parts'} continues at step " in again.communicate()[0]
    assert again.returncode == whole.returncode == 0
    for name in ("run.json", "history.csv"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
    one, other = (fl.Checkpoints(tmp_path / name).latest() for name in ("whole", "parts"))
    assert one is not None
    assert other is not None
    assert {name: value.tolist() for name, value in one["net"].items()} == {
        name: value.tolist() for name, value in other["net"].items()
    }

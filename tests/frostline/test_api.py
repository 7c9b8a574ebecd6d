from __future__ import annotations

import subprocess
import sys

import pytest

import frostline as fl


def test_the_front_door_is_these_names_and_no_other() -> None:
    assert fl.__all__ == [
        "FrostlineError", "Bench", "Certificate", "Checkpoints", "Diagnosis", "Driver", "Graph", "Plan", "Probe",
        "Program", "ScheduleSpec", "Site", "bench", "capture", "compare", "compile", "diagnose", "draw", "edit_spec",
        "export",
        "load_checkpoint", "load_spec", "lower", "placement", "plan", "read_spec", "run", "save_checkpoint", "session",
        "sites", "verify",
    ]  # fmt: skip
    assert all(getattr(fl, name).__doc__ for name in fl.__all__)
    assert set(fl.__all__) <= set(dir(fl))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        fl.train  # noqa: B018


def test_a_spec_is_checked_without_torch() -> None:
    code = "import sys, frostline as fl; fl.load_spec('schedules/stompp.yaml'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603

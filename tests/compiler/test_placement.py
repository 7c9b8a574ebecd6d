from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import frostline as fl
from frostline.compiler.placement import LIBRARY, Placement
from tests.compiler.test_fusing import lowered
from tests.models.small import chain


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("placement") / "chain.onnx"
    onnx.save(lowered(chain(), (3, 8, 8), []), path)
    return path


def test_a_session_tells_what_runs_where(path: Path) -> None:
    found = fl.placement(fl.session(path, "cpu"))
    assert found.nodes[LIBRARY] == {"FusedConv": 1, "PackedConv": 4, "FusedLinear": 1}
    assert "Conv" not in found.nodes["CPUExecutionProvider"]
    assert str(found).startswith(
        "frostline's kernels: 1 FusedConv, 1 FusedLinear, 4 PackedConv\nCPUExecutionProvider: "
    )


def test_without_kernels_everything_runs_in_the_provider(path: Path) -> None:
    found = fl.placement(fl.session(path, "cpu", kernels=False))
    assert list(found.nodes) == ["CPUExecutionProvider"]
    assert found.nodes["CPUExecutionProvider"]["Conv"] == 5


def test_a_runtime_that_does_not_tell() -> None:
    text = str(Placement(("CPUExecutionProvider",), {}))
    assert text == "providers: CPUExecutionProvider; this ONNX Runtime does not tell what runs where"

from __future__ import annotations

from pathlib import Path

import frostline as fl
from frostline.compiler.placement import LIBRARY, Placement


def test_a_session_tells_what_runs_where(chain_file: Path) -> None:
    found = fl.placement(fl.session(chain_file, "cpu"))
    assert found.nodes[LIBRARY] == {"FusedConv": 1, "PackedConv": 4, "FusedLinear": 1}
    assert "Conv" not in found.nodes["CPUExecutionProvider"]
    assert str(found).startswith(
        "frostline's kernels: 1 FusedConv, 1 FusedLinear, 4 PackedConv\nCPUExecutionProvider: "
    )


def test_without_kernels_everything_runs_in_the_provider(chain_file: Path) -> None:
    found = fl.placement(fl.session(chain_file, "cpu", kernels=False))
    assert list(found.nodes) == ["CPUExecutionProvider"]
    assert found.nodes["CPUExecutionProvider"]["Conv"] == 5


def test_a_runtime_that_does_not_tell() -> None:
    text = str(Placement(("CPUExecutionProvider",), {}))
    assert text == "providers: CPUExecutionProvider; this ONNX Runtime does not tell what runs where"

"""What fuzzing begins with: good files, small, and made when they are needed."""

from __future__ import annotations

from pathlib import Path

import onnx

from tests.fuzz import borders


def specs() -> list[bytes]:
    full = Path("tests/schedules/test_load.py").read_text().partition('FULL = """\\\n')[2].partition('"""')[0]
    return [full.encode(), *(path.read_bytes() for path in sorted(Path("schedules").glob("*.yaml")))]


def checkpoints() -> list[bytes]:
    whole = borders.checkpoint_file()
    unsealed = whole[len(borders.sealed(b"")) :]
    start = unsealed.index(b"\x80\x02}")
    return [whole, unsealed, unsealed[start : unsealed.index(b".PK", start) + 1]]


def models() -> list[bytes]:
    foreign = '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { y = Abs(x) }'
    return [borders.model_file(), bytes(onnx.parser.parse_model(foreign).SerializeToString())]

"""`export`: lower, write, re-open, prove; and only then is there a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frostline.compiler.certificate import Certificate
from frostline.compiler.exported import stamp
from frostline.compiler.files import replacing
from frostline.compiler.graph import Graph
from frostline.compiler.verify import verify
from frostline.errors import Offence, UsageError
from frostline.passes.lowering import lower


def export(
    binary: Graph,
    path: str | Path,
    *,
    target: str = "portable",
    inputs: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Certificate:
    """Write a binary graph as an ONNX file, prove the file, and return the certificate, which the file also carries.

    `inputs` and `kwargs` are arguments of the model, batch first, to prove it on: real data at best, the example inputs
    where neither is given. `target` is portable, cpu-int8, cuda-fp16 or tensorrt-int8. When anything fails there is no
    file, and an older one of that name stays as it was.

    Raises UsageError, LoweringError, FileError, DriftError.
    """
    if not isinstance(binary, Graph):
        remedy = "export what program.freeze() returns"
        raise UsageError("there is no graph to export", [Offence(f"it is a {type(binary).__name__}", remedy=remedy)])
    with replacing(path) as part:
        part.write_bytes(lower(binary, target).SerializeToString(deterministic=True))
        return stamp(part, verify(part, binary, inputs, kwargs, target=target, name=path))

"""frostline: a compiler from an ordinary float PyTorch model to a binary network, frozen layer by layer in training.

```python
spec = fl.load_spec("schedule.yaml")
program = fl.compile(model, spec, (x,), total_steps=10_000)
...
certificate = fl.export(program.freeze(), "model.onnx")
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from frostline.errors import FrostlineError

if TYPE_CHECKING:
    from frostline.benching import Bench as Bench
    from frostline.benching import bench as bench
    from frostline.comparing import compare as compare
    from frostline.compiler.capture import capture as capture
    from frostline.compiler.certificate import Certificate as Certificate
    from frostline.compiler.checkpoint import Checkpoints as Checkpoints
    from frostline.compiler.checkpoint import load_checkpoint as load_checkpoint
    from frostline.compiler.checkpoint import save_checkpoint as save_checkpoint
    from frostline.compiler.driver import Driver as Driver
    from frostline.compiler.graph import Graph as Graph
    from frostline.compiler.placement import placement as placement
    from frostline.compiler.plan import Plan as Plan
    from frostline.compiler.plan import plan as plan
    from frostline.compiler.rewriting import run as run
    from frostline.compiler.session import session as session
    from frostline.compiler.sites import Site as Site
    from frostline.compiler.sites import sites as sites
    from frostline.compiler.verify import verify as verify
    from frostline.doctor import Diagnosis as Diagnosis
    from frostline.doctor import diagnose as diagnose
    from frostline.drawing import draw as draw
    from frostline.exporting import export as export
    from frostline.passes.lowering import lower as lower
    from frostline.probe import Probe as Probe
    from frostline.program import Program as Program
    from frostline.program import compile as compile
    from frostline.schedules import ScheduleSpec as ScheduleSpec
    from frostline.schedules import edit_spec as edit_spec
    from frostline.schedules import load_spec as load_spec
    from frostline.schedules import read_spec as read_spec

__version__ = "0.1.0"

# Names are imported when they are first used, so that checking a spec does not load torch.
_HOMES = {
    "Bench": "benching",
    "Certificate": "compiler.certificate",
    "Checkpoints": "compiler.checkpoint",
    "Diagnosis": "doctor",
    "Driver": "compiler.driver",
    "Graph": "compiler.graph",
    "Plan": "compiler.plan",
    "Probe": "probe",
    "Program": "program",
    "ScheduleSpec": "schedules",
    "Site": "compiler.sites",
    "bench": "benching",
    "capture": "compiler.capture",
    "compare": "comparing",
    "compile": "program",
    "diagnose": "doctor",
    "draw": "drawing",
    "edit_spec": "schedules",
    "export": "exporting",
    "load_checkpoint": "compiler.checkpoint",
    "load_spec": "schedules",
    "lower": "passes.lowering",
    "placement": "compiler.placement",
    "plan": "compiler.plan",
    "read_spec": "schedules",
    "run": "compiler.rewriting",
    "save_checkpoint": "compiler.checkpoint",
    "session": "compiler.session",
    "sites": "compiler.sites",
    "verify": "compiler.verify",
}

__all__ = ["FrostlineError", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'frostline' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"frostline.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

#!/usr/bin/env bash
# Build through the sdist, install the wheel in a folder of its own, and use it from another one.
set -euo pipefail
root=$PWD
python=$root/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --outdir "$work/dist" "$root" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$python" -m pip install --quiet --no-deps --target "$work/site" "$work"/dist/*.whl
mkdir "$work/elsewhere"
cd "$work/elsewhere"
export PYTHONPATH=$work/site
"$python" - "$work" <<'PYTHON'
import sys
from importlib.resources import files
from pathlib import Path

import torch
from torch import nn

import frostline as fl

assert Path(fl.__file__).is_relative_to(sys.argv[1]), fl.__file__
shipped = files("frostline") / "schedules"
spec = fl.edit_spec(fl.load_spec(str(shipped / "stompp-ste.yaml")), {"binarize.keep_float": ["first", "last"]})
assert (shipped / "schema.json").is_file()
assert (files("frostline") / "py.typed").is_file()
assert (files("frostline") / "compiler" / "kernels" / "cuda" / "tiled.cuh").is_file()
model = nn.Sequential(nn.Linear(8, 32), nn.Hardtanh(), nn.Linear(32, 32), nn.Hardtanh(), nn.Linear(32, 4))
program = fl.compile(model, spec, (torch.randn(2, 8),), total_steps=20)
program.driver.resume(20)
print(fl.export(program.freeze(), "model.onnx"))
PYTHON
"$python" -m frostline verify model.onnx | tail -1
! unzip -l "$work"/dist/*.whl | grep -E '(tests|examples|benchmarks)/' || { echo "the wheel holds more than the package"; exit 1; }
echo "the wheel works"

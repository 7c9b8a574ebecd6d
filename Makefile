# Two commands do everything: `make demo` and `make test`. Both set up .venv first, from requirements.lock.

PYTHON ?= python3
# ONNX Runtime comes in two builds that exclude each other.
RUNTIME ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint requirements.lock

.PHONY: demo test check wheel docs lock clean

demo: .venv/.demo
	$(BIN)/python -m examples.digits.main

# Two workers of one thread each: as many cores as a small machine has.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# The documentation, as pages in site/ that fetch nothing from elsewhere.
docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# The built wheel, installed in an environment of its own and used from another folder.
wheel: .venv/.dev
	bash tests/wheel.sh

.venv/.demo: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) "torch==$$(sed -n 's/^torch==//p' requirements.lock)"
	$(INSTALL) --editable '.[$(RUNTIME),examples]'
	touch $@

.venv/.dev: .venv/.demo
	$(INSTALL) --editable '.[$(RUNTIME),examples,dev]'
	touch $@

# Pin what is installed now. torch is pinned without the local part of its version, so that each machine gets its build.
lock:
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^torch( @ .*|==.*)$$/torch==2.13.0/' \
	  | grep -vE '^(frostline|onnxruntime(-gpu)?|nvidia-|triton|cuda-)' > requirements.lock
	printf 'onnxruntime==1.32.0\nonnxruntime-gpu==1.31.1\n' >> requirements.lock

clean:
	rm -rf .venv build dist runs site src/*.egg-info

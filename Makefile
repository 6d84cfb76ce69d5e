# Two commands are enough: `make run` and `make test`. Both install first, from the lock file.
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
export DO_NOT_TRACK := 1

.PHONY: run test test-slow check bench lock clean

run: $(READY)
	$(BIN)/ganpipe run

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.dcgan

# Installed anew only when the lock file or the package's own data change.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 13); sys.exit(0 if ok else "ganpipe needs Python 3.11 or 3.12, and this is %d.%d: name one with make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages (torch with its GPU libraries is large: some minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Writes the lock file anew from pyproject.toml; needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate --no-header \
		pyproject.toml requirements-build.in -o requirements.lock

# Leaves data sets, runs and MLflow's records alone.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

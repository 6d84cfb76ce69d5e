# Two commands are enough: `make run` and `make test`. Both install first, from the lock file.
# The first that runs and fits; asked by running it, because a version manager's shim may be there and not run.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
export DO_NOT_TRACK := 1

.PHONY: run test test-slow check bench lock clean

run: $(READY)
	$(BIN)/ganpipe run

# Two tests at a time, on two cores.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# An hour or more. The browser tests need Debian's chromium; .ci/run installs it.
test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.dcgan
	KINETO_LOG_LEVEL=99 $(BIN)/python -m benchmarks.step  # torch's profiler is talkative

# Installed anew only when the lock file or the package's own data change.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(FITS)' || { echo "ganpipe needs Python 3.11 or 3.12 and found none that runs: name one with make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages (torch with its GPU libraries is large: some minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Writes the lock files anew from pyproject.toml; needs uv. The image has no tools of developers, but S3 and PostgreSQL.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header
lock:
	$(COMPILE) --extra dev pyproject.toml requirements-build.in -o requirements.lock
	$(COMPILE) --extra s3 --extra postgres --constraint requirements.lock pyproject.toml requirements-build.in \
		-o requirements-image.lock

# Leaves datasets, runs and MLflow's records alone.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# make results   the main job: environment, then the default workflow
# make test      every check that CI runs
# make env       only the environment (.venv, from requirements.lock)

PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

.PHONY: results test env lock check

results: env
	$(BIN)/python -m surefoot.unlock
	$(BIN)/snakemake --cores all

test: env check
	$(BIN)/python -m pytest

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	$(BIN)/snakemake --lint
	$(BIN)/python -m surefoot.docs --check

env: .venv/installed

# uv is fast; pip is the way that always works. Both refuse a package whose digest is not in the lock file.
.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	($(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION) \
	  && VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync -q --require-hashes --compile-bytecode requirements.lock) \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

lock: requirements.in
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.lock

# make results   the main job: environment, then the default workflow
# make test      every check that CI runs
# make env       only the environment (.venv, from requirements.lock)
# make cluster   an environment for clusters (.venv-cluster: .venv and Snakemake's plugins for batch systems)
# make test-slurm  a small experiment on a Slurm that the test sets up on this machine (root, Debian); part of make test

PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

.PHONY: results test test-slurm env cluster lock check

results: env
	$(BIN)/python -m surefoot.unlock
	$(BIN)/snakemake --cores all

# As root on Debian the tests may install Slurm; plain pytest never installs anything.
test: env cluster check
	SUREFOOT_SLURM=$${SUREFOOT_SLURM:-install} $(BIN)/python -m pytest -rs

test-slurm: env cluster
	SUREFOOT_SLURM=$${SUREFOOT_SLURM:-install} $(BIN)/python -m pytest -rs tests/slurm

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

cluster: .venv-cluster/installed

# An environment of its own, because with the Slurm plugin beside it every start of Snakemake asks Slurm, and waits 10 s
# where a controller does not answer. It holds the plugins; everything else it finds in .venv.
.venv-cluster/installed: .venv/installed requirements-cluster.lock
	$(BIN)/python -m venv --without-pip --clear .venv-cluster
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-cluster/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	VIRTUAL_ENV=$(CURDIR)/.venv-cluster $(BIN)/uv pip install -q --no-deps --require-hashes -r requirements-cluster.lock \
	  || $(BIN)/python -m pip --python .venv-cluster/bin/python install -q --disable-pip-version-check --no-deps \
	    --require-hashes -r requirements-cluster.lock
	touch $@

lock: requirements.in requirements-cluster.in
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-deps requirements-cluster.in \
	  -o requirements-cluster.lock

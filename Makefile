# `make search` and `make test` are the whole set-up: each installs what it needs into .venv first.
# ARGS goes to the command: make search ARGS="search --trials 50"
# EXTRAS are installed too, and stay: make install EXTRAS="cluster wandb"

SHELL := /bin/bash
# Processes that run tests, each with a small Ray of its own.
WORKERS ?= 2
EXTRAS ?=
UV := $(shell command -v uv || echo .boot/bin/uv)

.PHONY: search test test-slow test-gate test-all test-cluster test-browser soak fuzz check docs install

search: install
	@.venv/bin/python run_search.py $(ARGS)

PYTEST = .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Minutes, with real searches on Ray: one is killed and resumed.
test: install
	$(PYTEST) -m "not slow and not cluster" $(ARGS)

# What `make test` leaves out, on this machine: full disks, object stores, confirmations.
test-slow: install
	$(PYTEST) -m "slow and not cluster" $(ARGS)

# Both in one run, as the gate does: the searches that many tests read are made once.
test-gate: install
	$(PYTEST) -m "not cluster" $(ARGS)

test-all: test-gate test-cluster test-browser

# The longest: jobs, faults and the death of Ray on real clusters of this machine, the Slurm script on two network
# namespaces, a notebook, the examples of docs/python.md.
test-cluster: install
	.venv/bin/python -m pytest -m cluster $(ARGS)

# A team's day in chromium, on a real cluster of this machine: takes minutes, and a chromium of the system.
test-browser: install
	BROWSER_TESTS=1 .venv/bin/python -m pytest tests/browser $(ARGS)

# Makes faults at random under searches: SOAK_FAULTS of each kind, SOAK_SEED to repeat one.
soak: install
	OMP_NUM_THREADS=1 .venv/bin/python -m tests.faults.soak $(ARGS)

# Tries FUZZ_EXAMPLES (400) settings files, command lines and changed files for each of five tests.
fuzz: install
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-400} OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/fuzz $(ARGS)

check: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

# The tables of settings in docs/, from the docstrings of the settings.
docs: install
	.venv/bin/python -m tests.support.settings_tables

install: $(UV)
	@$(UV) sync --locked --inexact $(addprefix --extra ,$(EXTRAS))

# Where there is no uv, a private one; a virtual environment, since Debian's Python refuses a plain `pip install`.
.boot/bin/uv:
	python3 -m venv .boot
	.boot/bin/python -m pip install --quiet --disable-pip-version-check uv

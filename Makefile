# Every target creates .venv on first use, from a bare Python 3.10+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench demo replicate test test-slow test-oldest faults lint type clean
.DEFAULT_GOAL := test

# Trains three small networks on digits, runs every analysis on them, builds demo/report.html. No network needed.
demo: .venv/ready
	$(BIN)/python scripts/demo.py --out demo

# The paper's study on models trained here: DATA holds train/ and val/ or their zip. SMOKE=1: digits, in minutes.
# Hours; it goes on where it stopped.
replicate: .venv/ready
	$(BIN)/python scripts/replicate.py $(if $(SMOKE),--smoke --out runs/smoke,--data '$(DATA)' --out runs/tiny_imagenet)

test: .venv/ready
	$(BIN)/python -m pytest

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# Ratios in one run on this machine: each script says what it measures against.
bench: .venv/ready
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# What happens on bad days: damaged and hostile files, full disks, kills. FUZZ inputs per reader.
FUZZ ?= 300
faults: .venv/ready
	FUZZ=$(FUZZ) $(BIN)/python -m pytest -m 'slow or not slow' -rP tests/faults

# The lowest supported versions, in a venv of their own. Warnings stay warnings: old packages warn of each other.
test-oldest: .venv-oldest/ready
	.venv-oldest/bin/python -m pytest -W default

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=. $(BIN)/lint-imports

type: .venv/ready
	$(BIN)/mypy

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

.venv-oldest/ready: setup.cfg tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable '.[test]' --constraint tests/oldest.txt
	@touch $@

clean:
	rm -rf .venv .venv-oldest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Every target creates .venv on first use, from a bare Python 3.10+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: accelerators bench docs demo real replicate test test-slow test-oldest faults lint type clean
.DEFAULT_GOAL := test

# Trains three small networks on digits, runs every analysis on them, builds demo/report.html. No network needed.
demo: .venv/ready
	$(BIN)/python scripts/demo.py --out demo

# The paper's study on models trained here: DATA holds train/ and val/ or their zip. SMOKE=1: digits, in minutes.
# Hours; it goes on where it stopped.
replicate: .venv/ready
	$(BIN)/python scripts/replicate.py $(if $(SMOKE),--smoke --out runs/smoke,--data '$(DATA)' --out runs/tiny_imagenet)

# Every analysis on released networks (DINOv2, a ResNet-50) and their random twins: DATA holds their weights and photographs,
# as tf_vitcnn/commands/plans/real.toml says. It goes on where it stopped; DRY=1 says how long it will take.
real: .venv/ready
	$(BIN)/python scripts/replicate.py --plan tf_vitcnn/commands/plans/real.toml --data '$(DATA)' --out runs/real $(if $(DRY),--dry-run)

# One process a core of two: tracing keeps one busy. A file's tests share their models, so a file stays together.
TOGETHER := -n 2 --dist loadfile

test: .venv/ready
	$(BIN)/python -m pytest $(TOGETHER)

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# Ratios in one run on this machine: each script says what it measures against.
bench: .venv/ready
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Every step that runs on a device, lowered for TPUs and compiled by their own compiler, no device needed: a table, and an
# error where a module holds what it should not. MODELS and TARGET (v5e, v4, v6e) choose; what is done stays. STEPS names
# some of them, receptive_field among them: whose lowering and compiling are not flat in depth, so only when named.
MODELS ?= vit_b32 vit_l16 bit_r50x1 mixer_b16 foreign
TARGET ?= v5e
STEPS ?=
accelerators: .venv-lower/ready .venv-compile/ready
	.venv-lower/bin/python benchmarks/accelerators/lower.py build/accelerators $(MODELS) $(if $(STEPS),--steps $(STEPS))
	.venv-compile/bin/python benchmarks/accelerators/compile.py build/accelerators --target $(TARGET)
	.venv-compile/bin/python benchmarks/accelerators/table.py build/accelerators --target $(TARGET) --out build/accelerators

# tensorflow-tpu takes the place of tensorflow: the package's other needs are installed by name
.venv-lower/ready: benchmarks/accelerators/lower.txt
	$(PYTHON) -m venv .venv-lower
	.venv-lower/bin/python -m pip install --quiet --requirement $<
	@touch $@

.venv-compile/ready: benchmarks/accelerators/compile.txt
	$(PYTHON) -m venv .venv-compile
	.venv-compile/bin/python -m pip install --quiet --requirement $<
	@touch $@

# The documents as pages that open from a folder: site/index.html. Notebooks are run, warnings are errors. A notebook that
# imports Keras first would show what TensorFlow tells its developers, and tqdm that no widgets are installed.
QUIET := TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS='ignore:IProgress not found'
docs: .venv/ready-docs
	mkdir -p docs/examples && cp examples/*.py docs/examples/
	rm -rf .cache/mkdocs-jupyter # it keeps outputs by a notebook's text, whatever changed in what it calls
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(QUIET) $(BIN)/python -m mkdocs build --quiet --strict

# What happens on bad days: damaged and hostile files, full disks, kills. FUZZ inputs per reader.
FUZZ ?= 300
faults: .venv/ready
	FUZZ=$(FUZZ) $(BIN)/python -m pytest -m 'slow or not slow' -rP tests/faults

# Small faults put into statistics, sums and claims one at a time: the survivors are the tests that are missing. Hours for
# all; EACH mutants of a module, and ONLY modules of that name.
EACH ?= 0
mutants: .venv/ready
	$(BIN)/python tests/mutants.py --each $(EACH) --only '$(ONLY)'

# The lowest supported versions, in a venv of their own. Warnings stay warnings: old packages warn of each other.
test-oldest: .venv-oldest/ready
	.venv-oldest/bin/python -m pytest $(TOGETHER) -W default

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

.venv/ready-docs: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[docs,hub]'
	@touch $@

.venv-oldest/ready: setup.cfg tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable '.[test]' --constraint tests/oldest.txt
	@touch $@

clean:
	rm -rf .venv .venv-oldest .venv-lower .venv-compile build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

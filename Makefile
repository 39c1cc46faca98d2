# One venv for everything. `make study` and `make test` work on a fresh machine.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
LOWEST := $(VENV)-lowest/.ready
WORKERS ?= 2
UPGRADE ?= --upgrade
# a file's tests in one process, so that what they share is made once; files in the order of tests/conftest.py
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# annotations, shapes included, checked at each call: twice the time, so that one of the two runs in .ci/run does it
TYPED := --jaxtyping-packages=autoprune_lab,policies,beartype.beartype
# what is compiled once, tests' rewritten assertions too, is kept for the workers and commands that begin later
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help study test test-all test-lowest test-latest test-wheel lock lint format train bench notebooks pictures docs wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# pip takes the versions of constraints.txt, also for what it builds packages with
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
PIP_INSTALL := pip install --quiet --disable-pip-version-check

$(READY): constraints.txt
$(LOWEST): constraints-lowest.txt
$(LOWEST): export PIP_CONSTRAINT := $(CURDIR)/constraints-lowest.txt
$(READY) $(LOWEST): pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/$(PIP_INSTALL) -e '.[dev]'
	$(@D)/bin/$(PIP_INSTALL) --no-deps lmms-eval
	touch $@

# torch stays the one of constraints.txt in the lowest versions too: any other brings gigabytes of CUDA
lock:  ## write constraints*.txt anew: newest and lowest versions that pyproject.toml admits (UPGRADE=: change no more than needed)
	$(PYTHON) -m venv $(VENV)-lock
	PIP_CONSTRAINT= $(VENV)-lock/bin/$(PIP_INSTALL) 'uv>=0.9'
	$(VENV)-lock/bin/uv pip compile --quiet $(UPGRADE) --python-version 3.11 --group build \
		-o constraints.txt pyproject.toml
	$(VENV)-lock/bin/uv pip compile --quiet $(UPGRADE) --python-version 3.11 --no-universal --resolution lowest-direct \
		-o constraints-lowest.txt pyproject.toml
	rm -r $(VENV)-lock

test-lowest: $(LOWEST)  ## the fast tests with the lowest versions that pyproject.toml admits, but for torch, types checked as they run; tells what is skipped
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -q -rs $(PARALLEL) $(TYPED) -m 'not slow and not gpu' $(ARGS)

test-latest:  ## the fast tests with the newest versions that pyproject.toml admits, but for torch; tells what is newer
	$(PYTHON) -m venv --clear $(VENV)-latest
	grep '^torch==' constraints.txt >$(VENV)-latest/torch.txt
	PIP_CONSTRAINT=$(VENV)-latest/torch.txt $(VENV)-latest/bin/$(PIP_INSTALL) -e '.[dev]'
	PIP_CONSTRAINT= $(VENV)-latest/bin/$(PIP_INSTALL) --no-deps lmms-eval
	@echo 'newer than in constraints.txt:'; $(VENV)-latest/bin/pip freeze --exclude-editable | grep -vixFf constraints.txt || true
	OMP_NUM_THREADS=1 $(VENV)-latest/bin/python -m pytest -q $(PARALLEL) -m 'not slow and not gpu' $(ARGS)

study: $(READY)  ## the main job: tune a policy on the embedded model, print and draw its Pareto front; 5 minutes of one core
	@echo '100 trials and a report: about 5 minutes of one core (measured: 4.6). How long is left is said on the way; again: it goes on.'
	$(BIN)/autoprune study experiment=crowded $(ARGS)

test: $(READY)  ## the fast test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PARALLEL) -m 'not slow and not gpu' $(ARGS)

test-all: $(READY)  ## the slow tests too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PARALLEL) -m 'not gpu' $(ARGS)

lint: $(READY)  ## ruff, mypy, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(READY)  ## train the embedded models again, shapes and dense with seeds 0, 1, 2, driving and the highway, into runs/train
	for world in shapes dense; do for seed in 0 1 2; do \
		$(BIN)/autoprune train --world $$world --seed $$seed --out runs/train/$$world-s$$seed || exit 1; done; done
	$(BIN)/autoprune train --world driving --out runs/train/driving-s0
	$(BIN)/autoprune train --world driving_loop --out runs/train/driving-loop-s0
	$(BIN)/autoprune train --world highway --out runs/train/highway-s0

bench: $(READY)  ## the figures of docs/testbed.md and docs/driving.md, and the speed of the budget
	$(BIN)/python -m benchmarks.testbed --out benchmarks/results/testbed-shapes-s0.json --pictures docs/pictures
	$(BIN)/python -m benchmarks.driving --out benchmarks/results/driving-s0.json --pictures docs/pictures
	$(BIN)/python -m benchmarks.closed_loop --out benchmarks/results/closed_loop.json --pictures docs/pictures
	$(BIN)/python -m benchmarks.highway --out benchmarks/results/highway.json --pictures docs/pictures
	$(BIN)/python -m benchmarks.budget --out benchmarks/results/budget.json

notebooks: $(READY)  ## small studies over three seeds, then every notebook, which keeps its outputs; figures go to docs/pictures
	$(BIN)/autoprune sweep experiment=several_seeds policy=fixed,logistic_adaptive seed=0,1,2 study=seeds \
		'~report.arms.random' '~report.arms.uniform'
	$(BIN)/python -m benchmarks.notebooks notebooks/*.ipynb --pictures docs/pictures

pictures: study bench notebooks  ## every figure of docs/pictures; about an hour of one core
	$(BIN)/autoprune study experiment=driving
	$(BIN)/autoprune study experiment=quick study=page search=tpe search.n_trials=40 report.points=6
	$(BIN)/autoprune table model=embedded_dense task=dense report.task.per_kind=20 batch_size=64 --tokens 192 128 80 \
		--out runs/methods-table
	$(BIN)/autoprune sweep policy=layerwise search=tpe task=dense model=embedded_dense,embedded_dense_s1,embedded_dense_s2 \
		search.n_trials=24 task.per_kind=6 batch_size=64 study=worlds --at 0.35
	$(BIN)/autoprune study policy=layerwise search=tpe search.n_trials=24 task.per_kind=6 batch_size=64 folder=runs/worlds study=shapes
	$(BIN)/autoprune transfer runs/worlds/* report.task.per_kind=20 --out runs/worlds-transfer
	$(BIN)/python -m benchmarks.study_page runs/page
	$(BIN)/python -m benchmarks.pictures

docs: $(READY)  ## the documentation site, into site/; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

wheel: $(READY)  ## build the wheel into dist/
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps -w dist .

test-wheel: wheel  ## use the wheel as a user does, in an empty folder
	.ci/test-wheel $(BIN)/python dist/*.whl

clean:  ## remove what these targets made, the studies too
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-latest $(VENV)-lock dist build site runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

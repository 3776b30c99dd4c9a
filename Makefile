# make run: everything from a fresh clone to the results table.   make test: everything from a fresh clone to green tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= --task resnet50_layer4
PYTEST ?=

.PHONY: run site report docs test lint bench clean

run: $(VENV)/.run
	$(BIN)/python -m benchmark run $(RUN)

# From your runs, or, where there are none, from the results that come with CLEAR.
site: $(VENV)/.run
	$(BIN)/python -m leaderboard build

report: $(VENV)/.run
	$(BIN)/python -m report build

# A site of plain files, and the same in one file for a release. Warnings are errors; the tutorials are executed.
docs: $(VENV)/.dev
	rm -rf build/docs docs/reference
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
	cd build && $(CURDIR)/$(BIN)/python -m zipfile -c clear-docs.zip docs/

# Two processes, and the tests of a file in one of them, so that what they share is made once; one thread each, since
# OpenMP's threads wait for each other in a loop where there are more of them than cores. Files run in their order, since the
# usual one, most tests first, leaves few and long tests to the end.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/asv --config tests/asv/asv.conf.json machine --yes
	$(BIN)/asv --config tests/asv/asv.conf.json run --python=$(CURDIR)/$(BIN)/python --set-commit-hash=HEAD

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CLEAR needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[report]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[report,dev]"
	touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist *.egg-info

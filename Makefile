# Needs git, make, and Python >= 3.11 with pip. Everything else is installed into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help bench test test-slow check docs format wheel-check constraints clean

VENV := .venv
BIN := $(VENV)/bin
SUITE ?= quick
# Rows of `make bench`; the published ones are in results/, so that a fresh clone runs them anew.
RESULTS ?= runs
# The first interpreter that really starts and is new enough (a shim may exist and refuse to run).
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Two processes, each with half of the files until one has nothing to do: what is compiled is shared
# within a process.
JOBS ?= 2
# Of most tests compiling is the most part: quickly, where they do not run for long.
QUICK_COMPILE := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

help:
	@echo "make bench        install into .venv and run the suite 'quick' (SUITE=... for another, RESULTS=results to publish)"
	@echo "make test         install into .venv and run the tests (slow ones: make test-slow)"
	@echo "make check        lint, formatting, types, generated documentation"
	@echo "make docs         regenerate docs/reference.md, docs/update.svg and the tables in README.md"
	@echo "make format       apply the formatter and the safe fixes of the linter"
	@echo "make wheel-check  sdist -> wheel -> import, and the other packaging tests"
	@echo "make constraints  write the installed versions to constraints.txt"
	@echo "make clean        remove .venv and everything generated that git ignores"

bench: $(VENV)/.installed
	$(BIN)/xplore bench $(SUITE) --results $(RESULTS)

test: $(VENV)/.installed-dev
	XLA_FLAGS="$(QUICK_COMPILE) $(XLA_FLAGS)" $(PYTEST) -m "not slow and not gpu" $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m "slow and not gpu" $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python docs/generate.py --check

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-check: $(VENV)/.installed-dev
	$(PYTEST) tests/test_packaging.py $(ARGS)

constraints: $(VENV)/.installed-dev
	$(BIN)/python docs/constraints.py constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .jax_cache .hypothesis

# Some distributions ship Python without ensurepip: their own pip can still fill a venv.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "xplore needs Python 3.11 or newer, and none was found: install one, or name it with make PYTHON=/path/to/python3" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "xplore needs Python 3.11 or newer; $(PYTHON) is not: name another with make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing xplore into $(VENV) (some minutes the first time)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing xplore and its development tools into $(VENV) (some minutes the first time)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed $@

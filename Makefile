# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= ./store
# Processes that run tests side by side; each starts servers of its own.
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile
# Where torch comes from: nothing for pip's own index, or an index of PyTorch's builds for one kind of machine, such as
# https://download.pytorch.org/whl/cpu (README).
TORCH_INDEX ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint fix docs bench bench-% clean

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch comes first, from an index of its own if one is given. Which build that is, the index decides: PyPI's for Linux
# is the one for CUDA, with gigabytes of libraries, and so it stays unless TORCH_INDEX names another.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, found " + sys.version)'
	@echo "installing into $(VENV): minutes, and gigabytes with a torch for CUDA (TORCH_INDEX chooses another)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[build,augment,tensorboard,ray,s3,hub,docs,dev]'
	@touch $@

install: $(VENV)/.installed ## make the virtual environment

demo: install ## build the embedded recipe with the embedded generator and say where the report is
	$(BIN)/tailforge build workshop --store $(STORE)

test: install ## run the checkers and the tests (not the slow ones)
	$(PYTEST) -m "not slow and not gpu and not network"

test-slow: install ## run the slow tests (builds that are killed, larger builds)
	$(PYTEST) -m "slow and not gpu and not network"

lint: install ## check style and types, changing nothing
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

fix: install ## mend style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: install ## write the reference pages from the code and build the site in build/docs; a broken link is an error
	$(BIN)/python -m tailforge.flows.cli.reference
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

bench: bench-sizes bench-worth bench-masks bench-defects bench-generator bench-chain bench-seedselect bench-inversion bench-training bench-primitives bench-reading bench-operations ## run all benchmarks and write docs/benchmarks

bench-%: install
	$(BIN)/python -m tests.benchmarks.$*

clean: ## remove the virtual environment and caches, not the store
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# Two commands for a fresh clone: `make demo` and `make test`. Both make and fill .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
GOLDEN := golden_datasets/tickets.jsonl
CHECKED := src tests examples benchmarks

.PHONY: demo test test-all test-lowest record bench format clean

demo: $(VENV)/.eval
	$(BIN)/finops-eval run $(GOLDEN)

test: lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: lint
	$(BIN)/pytest -n 2 --dist loadfile

.PHONY: lint
lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports

# The oldest versions that pyproject.toml allows, in an environment of their own.
test-lowest: tests/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q -U pip
	.venv-lowest/bin/pip install -q -e '.[dev]' -c tests/lowest.txt
	.venv-lowest/bin/pytest -n 2 --dist loadfile -m "not slow"

# A real model on this machine, in an environment of its own; needs a compiler and half an hour.
record: $(VENV)/.eval
	BIN=$(BIN) golden_datasets/record.sh

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/metering.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/pricing.py --no-litellm
	$(BIN)/python benchmarks/guards.py
	$(BIN)/python benchmarks/levers.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean:
	rm -rf .venv .venv-lowest .venv-record results build dist

# One environment for both: the dev extra holds the eval extra.
$(VENV)/.eval: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U pip
	$(BIN)/pip install -q -e '.[eval]'
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U pip
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(VENV)/.eval

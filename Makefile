# Every target builds .venv by itself when it is missing or older than what it is made from.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := peft,math,serve,peer,dev
SERVE_VENV := .venv-serve
SERVE_STAMP := $(SERVE_VENV)/.installed
PATHS := src tests docs $(wildcard benchmarks examples)
TORCH := $(shell grep '^torch==' constraints.txt)

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help .venv quickstart test serve-test check check-static check-slow format format-check lint types layers docs coverage clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv: $(STAMP) ## build the virtual environment and nothing else

# torch goes first and pinned: unpinned, pip would take a build with gigabytes of CUDA libraries.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11, which Tutelage needs: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

quickstart: export OMP_NUM_THREADS = $(WORKERS)
quickstart: $(STAMP) ## make a teacher and a student, distil, evaluate, write a report (minutes on two cores)
	$(BIN)/tutelage quickstart

test: $(STAMP) ## the tests, on WORKERS processes of one thread each
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --quiet

$(SERVE_STAMP): requirements-serve.txt
	test -x $(SERVE_VENV)/bin/python || $(PYTHON) -m venv $(SERVE_VENV)
	$(SERVE_VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements-serve.txt
	touch $@

serve-test: $(STAMP) $(SERVE_STAMP) ## the tests against real vLLM servers, in a virtual environment of their own (3.4 GB)
	$(BIN)/python tests/serving/with_servers.py $(SERVE_VENV)/bin/python $(BIN)/python -m pytest -m served --quiet tests/serving

check: check-static test ## all that a change must pass

check-static: format-check lint types layers docs ## all of it but the tests

check-slow: $(STAMP) ## the tests that take minutes
	$(BIN)/python -m pytest --slow -m slow --quiet

coverage: $(STAMP) ## the tests with the coverage floor
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --quiet --cov --cov-report=term

format: $(STAMP) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)

format-check: $(STAMP)
	$(BIN)/ruff format --check $(PATHS)

lint: $(STAMP)
	$(BIN)/ruff check $(PATHS)

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(STAMP)
	$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove everything that can be built again
	rm -rf $(VENV) $(SERVE_VENV) build dist site .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage

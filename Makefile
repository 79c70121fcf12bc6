# Needs make and Python 3.11 or later. `make run` and `make test` set themselves up, once, in .venv.

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is 3.11 or later; `make run PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
# Test folders with Node.js packages. npm creates this file, so it also shows that the packages are installed.
NODE_READY := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard tests/*/package-lock.json))
# Where `make bench` has the packages of those that Concord is compared with.
BENCH := var/bench/venv
BENCH_NODE := tests/bench/peers/node/node_modules/.package-lock.json
# Extra arguments for pytest, for example: make test ARGS="-k divide". For `make bench` they are those of
# tests/bench/compare.py, which alone is run then, for example: make bench ARGS="--rounds 1 --only fastapi".
ARGS ?=
# How many examples `make fuzz` tries for each operation.
EXAMPLES ?= 500
# The seed of `make fuzz`; each line of its output says which one it took.
SEED ?= random

.DEFAULT_GOAL := help
.PHONY: help run test lint format docs fuzz faults bench sbom lock upgrade clean

help: ## List what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

run: $(VENV)/run-ready ## Serve on http://127.0.0.1:8080 with an embedded database
	@exec $(BIN)/python app.py serve

test: $(VENV)/dev-ready $(NODE_READY) ## Run the tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev-ready ## Check style, types and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(VENV)/dev-ready ## Format the code and mend what can be mended safely
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

fuzz: $(VENV)/dev-ready ## Run schemathesis for longer, with a new seed each time
	@FUZZ_EXAMPLES=$(EXAMPLES) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -m fuzz --timeout=0 $(ARGS)

faults: $(VENV)/dev-ready ## Let replicas, database, network, disk and clock fail under load, for hours
	@$(BIN)/python tests/faults/bench.py $(ARGS)

docs: $(VENV)/dev-ready ## Generate the tables and diagrams of the documentation
	@$(BIN)/python tests/generate_docs.py

bench: $(BENCH)/ready $(BENCH_NODE) ## Compare Concord with its peers, which takes an hour and two cores
# The comparison is last: it ends with the goals, to which the others have given their figures.
ifeq ($(ARGS),)
	@$(BENCH)/bin/python tests/bench/in_process.py --rounds 7
	@$(BENCH)/bin/python tests/bench/scaling.py --rounds 5 --seconds 1
	@$(BENCH)/bin/python tests/bench/depth.py
endif
	@$(BENCH)/bin/python tests/bench/compare.py $(or $(ARGS),--chart var/bench/chart)

sbom: $(VENV)/run-ready ## Write the software bill of materials to var/sbom.json
	@mkdir -p var
	@$(BIN)/python deploy/sbom.py requirements.txt > var/sbom.json

lock: $(VENV)/dev-ready ## Lock what pyproject.toml asks for, keeping versions that still fit
	@$(LOCK) pyproject.toml --output-file requirements.txt
	@$(LOCK) pyproject.toml --all-extras --constraint requirements.txt --output-file requirements-all.txt
	@$(LOCK) pyproject.toml --all-extras --group dev --constraint requirements.txt --output-file requirements-dev.txt
	@$(LOCK) --group build --constraint requirements-dev.txt --output-file requirements-build.txt
	@$(LOCK) pyproject.toml --group bench --constraint requirements.txt --output-file requirements-bench.txt

upgrade: LOCK += --upgrade
upgrade: lock ## Lock the newest versions that pyproject.toml allows

clean: ## Remove installed and cached files, but not the database and keys under var
	rm -rf $(VENV) var/cache .hypothesis tests/*/node_modules
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# What `make run` needs. A change of the lock makes the environment anew, so nothing outdated stays behind.
$(VENV)/run-ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "Concord needs Python 3.11 or later: install it, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON); this is done once."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

# What the tests and the other checks need besides.
$(VENV)/dev-ready: requirements-dev.txt $(VENV)/run-ready
	@echo "Adding what the tests need."
	@$(PIP_INSTALL) -r requirements-dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check check --quiet
	@touch $@

# What the peers of tests/bench need, apart from everything else.
$(BENCH)/ready: requirements-bench.txt
	@test -n "$(PYTHON)" || { echo "Concord needs Python 3.11 or later: say make bench PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(BENCH) with $(PYTHON); this is done once."
	@$(PYTHON) -m venv --clear $(BENCH)
	@$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r requirements-bench.txt
	@touch $@

# The same in Node.js, with the scripts that make its driver of SQLite. Without Node.js, its peer is left out.
$(BENCH_NODE): tests/bench/peers/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/bench/peers/node --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "There is no npm, which one peer needs." >&2; fi

# Node.js is not a must: without it the tests that need it are the only ones that say so.
tests/%/node_modules/.package-lock.json: tests/%/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing what tests/$* uses of Node.js."; \
	  npm ci --prefix tests/$* --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "There is no npm, which some tests in tests/$* need." >&2; fi

# Taskloom: `make help` lists what can be done. Everything works from a clean clone with Python 3.11+ alone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
BOOTSTRAP_PYTHON ?= python3
TASKLOOM := $(PYTHON) -m taskloom
# The stamp is named after the lock's content: a changed lock is installed anew, a touched file is not.
STAMP := $(VENV)/.installed-$(shell cat requirements/dev.txt requirements/runtime.txt 2>/dev/null | sha256sum | cut -c1-16)
PYTEST_ARGS ?=

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | sort | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## Make .venv from the hashed lock and fetch Kafka's jars (once; offline afterwards)

$(STAMP):
	@$(BOOTSTRAP_PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Taskloom needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set BOOTSTRAP_PYTHON=/path/to/python3.11")'
	@test -x $(PYTHON) || $(BOOTSTRAP_PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@$(PYTHON) -m taskloom.local.jars
	@touch $@

.PHONY: check
check: setup ## Format, lint, types, import rules, contracts up to date
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(TASKLOOM) contracts --check

.PHONY: format
format: setup ## Format the code and mend what the linter can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

.PHONY: test
test: setup ## All tests with a real broker and a real database (not: chaos, bench, soak)
	$(PYTHON) -m tests.run $(PYTEST_ARGS)

.PHONY: chaos
chaos: setup ## Kill services, broker and database while work is under way
	$(PYTHON) -m pytest -m chaos $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## Measure rates, latency and memory; prints JSON lines and a table
	$(PYTHON) -m tests.bench

.PHONY: up
up: setup ## Start everything in the foreground (TASKLOOM_HTTP_PORT, TASKLOOM_HOME)
	@exec $(TASKLOOM) up

.PHONY: demo
demo: setup ## Start everything, run real tasks, show them live, stop
	@exec $(TASKLOOM) demo

.PHONY: contracts
contracts: setup ## Generate AsyncAPI, OpenAPI and JSON Schemas from the code
	$(TASKLOOM) contracts

.PHONY: lock
lock: ## Renew the lock from pyproject.toml (needs uv; the only target that does)
	uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements/runtime.txt
	uv pip compile pyproject.toml --extra dev --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements/dev.txt

.PHONY: clean
clean: ## Remove .venv and the tools' caches (never a home with data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

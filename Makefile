# Everything a developer or an operator does here, by name. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ONCE ?=
WORKERS ?= auto
# Where this is set, each of a thousand commands of the tests would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test lint bench soak openapi lock clean

help: ## Show this list
	@awk 'BEGIN{FS=":.*## "} /^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Install everything into .venv, from locked and hashed requirements

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say PYTHON=python3.12, for example."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## Serve a demonstration: a testimony travels from a witness to a reviewer (ONCE=1 ends after it)
	$(BIN)/python -m scripts.tour $(if $(ONCE),--once)

test: setup ## Run all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: setup ## Check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## Measure speed and memory beside the bare operation, print a table, write JSON to build/
	$(BIN)/python -m benchmarks

soak: setup ## Cut, kill and resume for an hour
	AMANA_SOAK=1 $(BIN)/python -m pytest tests/journeys -p no:cacheprovider --timeout 7200

openapi: setup ## Write docs/openapi.json, docs/rights.md and docs/workflow.md anew
	$(BIN)/python -m scripts.write_openapi
	$(BIN)/python -m scripts.write_rights
	$(BIN)/python -m scripts.write_workflow

lock: ## Resolve the requirements anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements/runtime.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --group dev -c requirements/runtime.txt -o requirements/dev.txt pyproject.toml

clean: ## Remove what was built or measured; keeps ./var
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

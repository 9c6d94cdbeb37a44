# Everything runs in .venv, made here from requirements.lock; only python3 (3.11 or
# newer) and the network are needed. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := src tests scripts images charts
TIERS ?= tests/unit tests/integration tests/e2e

.DEFAULT_GOAL := help
.PHONY: help run dev test test-unit test-integration check format e2e coverage mutation bench chaos docs docs-check picture lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; name another with make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## One task from "submitted" to "succeeded" on this machine; ends by itself
	@$(BIN)/oz-agent-worker dev --run-file examples/hello.sh

dev: $(STAMP) ## Control plane, worker and agent in this terminal; stays up
	@$(BIN)/oz-agent-worker dev

test: check test-unit test-integration ## Lint, types, layers; unit tests; integration tests on a real API server

test-unit: $(STAMP) ## Unit tests alone, without a cluster; a minute
	@$(BIN)/python -m tests.cluster.helm
	@$(BIN)/pytest --numprocesses 2 --dist loadfile tests/unit

test-integration: $(STAMP) ## Integration tests alone, on a real API server
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.cluster.helm
	@$(BIN)/pytest --numprocesses 2 --dist loadfile tests/integration

check: $(STAMP) ## Lint, format, types, import layers
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

e2e: $(STAMP) ## Whole journeys as a user would make them
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.cluster.helm
	@$(BIN)/pytest tests/e2e

coverage: $(STAMP) ## What the tests of every tier run of each package; without the node tier: TIERS="tests/unit tests/integration"
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.cluster.helm
	@mkdir -p .coverage && $(BIN)/coverage erase
	@for tier in $(TIERS); do $(BIN)/coverage run -m pytest --quiet $$tier || exit 1; done
	@$(BIN)/coverage combine --quiet
	@$(BIN)/python -m scripts.coverage_report

mutation: $(STAMP) ## Faults put into the pure packages, which their unit tests must notice; the last line is JSON
	@$(BIN)/python -m tests.mutation

bench: $(STAMP) ## Figures against the budgets; the last line is JSON
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.bench

chaos: $(STAMP) ## Kill everything at every step of a task's life; CHAOS="--tasks 200 --seed 7"
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.chaos $(CHAOS)

docs: $(STAMP) ## Write every generated file, and build the site into site/
	@$(BIN)/python -m scripts.docs write
	@$(BIN)/python -m scripts.docs site
	@echo "site/index.html"

docs-check: $(STAMP) ## Name the generated files that are behind
	@$(BIN)/python -m scripts.docs check

picture: $(STAMP) ## Run tasks for minutes and draw docs/images/dashboard.png from what Prometheus saw
	@$(BIN)/python -m tests.cluster.provision
	@$(BIN)/python -m tests.observability.picture

lock: $(STAMP) ## Resolve requirements.lock anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --extra dev --upgrade -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --extra control-plane --extra otlp --extra postgresql \
		--extra prometheus -c requirements.lock -o images/worker/requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --upgrade -o images/build.lock images/build.in

clean: ## Remove the environment and every cache inside the repository
	@rm -rf $(VENV) build site .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `make` alone lists the targets. Give variables behind them: `make run PORT=8001 AGENTS=2`.
PYTHON ?= python3
PORT ?= 8000
AGENTS ?= 1
STATE_DIR ?= .local
# How many test processes: two more than cores, since many tests wait for a timeout or for another process.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))

# With any value the tests measure which branches they run, as delivery.yml does.
COVERAGE ?=
# Of these the lines are listed that no test runs.
LISTED := apps/*/services/*,agent/*

# The tests start hundreds of processes. Python compiles the modules once for all of them, also where a container image
# turns bytecode off.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test test-all test-quick test-nightly lint types format package benchmark-lambda throughput cost units deploy-staging deploy-production clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make the virtual environment .venv, and nothing else.

$(INSTALLED): requirements.txt requirements-container.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@echo "Installing into .venv; the first time this takes about a minute"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: install ## Run the control plane, its database and an agent on this machine.
	@exec $(BIN)/python manage.py local --port "$(PORT)" --agents "$(AGENTS)" --state-dir "$(STATE_DIR)"

test: lint types test-all ## Everything that must hold: lint, types, import contracts and all tests.

test-all: install ## All tests but the nightly ones, and which ten were the slowest.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations=10 $(if $(COVERAGE),--cov --cov-report=)
	$(if $(COVERAGE),$(BIN)/coverage report --include='$(LISTED)' --show-missing --skip-covered)
	$(if $(COVERAGE),$(BIN)/coverage report --format=total)

# By what each directory was measured to take.
NOT_QUICK := agent benchmarks browser controlplane delivery deployment endtoend faults infrastructure local properties zappa \
  accounts/test_djangos_own.py contract/test_fuzz.py jobs/test_stored_logs.py lib/test_data_keys.py lib/test_object_storage.py \
  nosql/test_transport.py

test-quick: install ## The control plane's own tests, in a minute: no agent, browser, S3, fault, deployment or slow test.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not deploy and not slow and not nightly" $(NOT_QUICK:%=--ignore tests/%)

test-nightly: install ## The tests that take minutes: long simulations, and many more examples of properties.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m nightly --durations=10

lint: install ## Check style, layout, who may import whom, workflows and container files.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/actionlint -shellcheck= -pyflakes=
	$(BIN)/zizmor --quiet --offline --no-progress .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml compose.trial.yaml

types: install ## Check the types of all code, tests and benchmarks too.
	$(BIN)/mypy

format: install ## Lay the code out, and mend what can be mended without thought.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

package: install ## Make the package for Lambda, and say what is in it.
	@VIRTUAL_ENV="$(CURDIR)/.venv" AWS_EC2_METADATA_DISABLED=true $(BIN)/zappa package staging --output .package/lambda.zip

benchmark-lambda: install ## Measure the package against the stack of the earlier notes.
	@$(BIN)/python -m benchmarks.lambda_comparison

throughput: install ## Measure jobs a second, and what CPU a job costs; on an idle machine.
	@$(BIN)/python -m benchmarks.throughput $(THROUGHPUT)

# The key is for nothing: no request is answered with it.
cost units: export DJANGO_SETTINGS_MODULE = controlplane.settings
cost units: export SECRET_KEY = only-for-figures
cost: install ## Print what a month costs on AWS.
	@$(BIN)/python -m benchmarks.cost

units: install ## Measure what each operation uses of DynamoDB, for `make cost`.
	@$(BIN)/python -m benchmarks.units

# Settings of a stage stand in .env.<stage>, which git does not see, or in the environment.
deploy-staging deploy-production: deploy-%: install
	@set -a; if [ -f .env.$* ]; then . ./.env.$*; fi; set +a; exec $(BIN)/python manage.py deploy --stage $* $(DEPLOY)

deploy-staging: ## Bring staging to AWS: infrastructure, package, function, API, smoke tests.
deploy-production: ## The same for production.

clean: ## Remove .venv and caches; the data in .local stays.
	rm -rf .venv .package .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache staticfiles
	find . -name __pycache__ -not -path './.local/*' -prune -exec rm -rf {} +

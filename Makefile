# `make` alone lists the targets. Give variables behind them: `make run PORT=8001 AGENTS=2`.
PYTHON ?= python3
PORT ?= 8000
AGENTS ?= 1
STATE_DIR ?= .local
# How many test processes: two more than cores, since many tests wait for a timeout or for another process.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))
# Those of `make test-quick` do not wait, and each process more costs the time of another collection.
QUICK_WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

# What `make build` names the image.
IMAGE ?= hybrid-ci-cd

# With any value the tests measure which branches they run, as delivery.yml does.
COVERAGE ?=
# Of these the lines are listed that no test runs.
LISTED := apps/*/services/*,agent/*,cli/src/hci/*

# The tests start hundreds of processes. Python compiles the modules once for all of them, also where a container image
# turns bytecode off.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# What is in .venv: what `make run` needs, and what all the other targets need, which is more.
RUNS := .venv/.runs
INSTALLED := .venv/.installed
# uv installs in a tenth of the time that pip takes. Where it is not on the PATH, pip installs uv alone.
UV := $(or $(shell command -v uv),.venv/.uv/bin/uv)

.DEFAULT_GOAL := help
.PHONY: help install run lock test collect test-all test-quick test-nightly lint types format guide package benchmark-lambda benchmark-audit benchmark-log benchmark-matrix benchmark-notes throughput mutants cost units deploy-staging deploy-production clean dev build test-moto

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make the virtual environment .venv, and nothing else.

# What the lock names is in .venv, without bytecode: Python makes that of what it imports. A lock is complete, so that pip
# needs not look for more. pip has settings of its own for proxies and indexes, so it may succeed where uv does not.
# The command line runs from its source; with -P, no module of the folder in which it is called gets into it.
define installed
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
@test -x $(BIN)/python || $(PYTHON) -m venv .venv
@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target .venv/.uv -r requirements/installer.txt
@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r $< || { echo "uv cannot install it. pip tries, which takes longer"; \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<; }
@rm -rf .venv/.uv
@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m hci "$$@"\n' "$(CURDIR)/cli/src" "$(CURDIR)/$(BIN)/python" > $(BIN)/hci
@chmod +x $(BIN)/hci
@touch $@
endef

$(RUNS): requirements/run.txt
	@test -e $(INSTALLED) || echo "Installing into .venv; the first time this takes some seconds"
	$(installed)

$(INSTALLED): requirements/dev.txt
	@echo "Installing into .venv; the first time this takes about a minute"
	$(installed)

# An input has exact versions, and a lock what these need. Without UPGRADE a lock changes only where an input has.
lock: UPGRADE ?=
lock: install ## Make the locks of requirements/ anew; UPGRADE=--upgrade takes the newest of what the inputs need.
	@for name in dev run deploy container runtime installer; do \
	  (cd requirements && ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    $$(test $$name = dev && echo "$(UPGRADE)" || echo "--constraint dev.txt") --output-file $$name.txt $$name.in) || exit 1; \
	done

run: $(RUNS) ## Run the control plane, its database and an agent on this machine.
	@exec $(BIN)/python manage.py local --port "$(PORT)" --agents "$(AGENTS)" --state-dir "$(STATE_DIR)"

test: install ## Everything that must hold: lint, types, import contracts and all tests.
	@$(MAKE) --jobs 2 lint types collect
	@$(MAKE) test-all

# There is time for it while mypy checks the types.
collect: install ## Import all tests, so that the processes that run them find bytecode.
	@found=$$($(BIN)/python -m pytest --collect-only --quiet --quiet) || { echo "$$found"; exit 1; }

test-all: install ## All tests but the nightly ones, and which ten were the slowest.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations=10 $(if $(COVERAGE),--cov --cov-report=)
	$(if $(COVERAGE),$(BIN)/coverage report --include='$(LISTED)' --show-missing --skip-covered)
	$(if $(COVERAGE),$(BIN)/coverage report --format=total)

# Left out are directories and files whose tests take over 50 ms each on average; take such a file into the list.
test-quick: install ## Half of the tests in a minute, of services and the API: no page, agent, fault, deployment or slow test.
	$(BIN)/python -m pytest -q -n $(QUICK_WORKERS) --dist worksteal -m "not deploy and not slow and not nightly" @tests/not_quick.txt

# By what they are about: records, tables and transactions, and the services that are closest to them.
MOTO := tests/nosql tests/audit \
  $(addprefix tests/accounts/test_,sessions.py session_rows.py session_data.py users.py identities.py) \
  $(addprefix tests/agents/test_,api.py authentication.py configuration.py enrolment.py enrolment_tokens.py fitness.py \
    identities.py keys.py leases.py lifecycle.py portions.py removals.py)

test-nightly: install ## The tests that take minutes: long simulations, and many more examples of properties.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --fail-on-flaky --hypothesis-profile nightly --timeout 3600 -m nightly --durations=10
	EXAMPLES=10 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --fail-on-flaky --hypothesis-profile nightly -m "hypothesis and not nightly" --durations=10

lint: install ## Check style, layout, who may import whom, workflows and container files.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=cli/src $(BIN)/lint-imports --no-logo
	$(BIN)/zizmor --quiet --offline --no-progress .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml compose.trial.yaml

types: install ## Check the types of all code; of what runs on a Mac, for that and the newest Python, too.
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --strict --ignore-missing-imports --platform darwin --python-version 3.14 \
	  --cache-dir .mypy_cache/darwin -p agent -p controlplane.local
	MYPYPATH=cli/src $(BIN)/mypy --config-file= --strict --ignore-missing-imports --platform darwin --python-version 3.14 \
	  --cache-dir .mypy_cache/darwin -p hci

format: install ## Lay the code out, and mend what can be mended without thought.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

guide: install ## Write what is generated of docs/guide, and the pages under /guide.
	$(BIN)/python -m docs.guide.build

package: install ## Make the package for Lambda, and say what is in it.
	@VIRTUAL_ENV="$(CURDIR)/.venv" AWS_EC2_METADATA_DISABLED=true $(BIN)/zappa package staging --output .package/lambda.zip

benchmark-lambda: install ## Measure the package against the stack of the earlier notes.
	@$(BIN)/python -m benchmarks.lambda_comparison

benchmark-notes: install ## Measure the times that the notes claim, and how many instances serve 1,000 requests a second.
	@$(BIN)/python -m benchmarks.notes_figures

benchmark-log: install ## Measure how a browser follows, opens and searches long logs; on an idle machine.
	@$(BIN)/python -m benchmarks.log_page

benchmark-matrix: install ## Measure on the emulator what runs cost: a matrix of 1,000, a finish, claims from long queues.
	@$(BIN)/python -m benchmarks.matrix

benchmark-audit: install ## Measure how long checking a sealed trail of a million events takes, and its memory.
	@$(BIN)/python -m benchmarks.sealed_trail $(EVENTS)

throughput: install ## Measure jobs a second, and what CPU a job costs; on an idle machine.
	@$(BIN)/python -m benchmarks.throughput $(THROUGHPUT)

mutants: install ## Plant faults, one at a time, and count those that the tests notice.
	@$(BIN)/python -m benchmarks.mutants $(MUTANTS)

# The key is for nothing: no request is answered with it.
cost units benchmark-audit: export DJANGO_SETTINGS_MODULE = controlplane.settings
cost units benchmark-audit: export SECRET_KEY = only-for-figures
cost: install ## Print what a month costs on AWS, and what makes the difference to the goals.
	@$(BIN)/python -m benchmarks.cost
	@$(BIN)/python -m benchmarks.cost_goals

units: install ## Measure what each operation uses of DynamoDB, for `make cost`.
	@$(BIN)/python -m benchmarks.units

# Settings of a stage are in .env.<stage>, which git does not see and the command reads, or in the environment.
deploy-staging deploy-production: deploy-%: install
	@exec $(BIN)/python manage.py deploy --stage $* $(DEPLOY)

deploy-staging: ## Bring staging to AWS: infrastructure, package, function, API, smoke tests.
deploy-production: ## The same for production.

clean: ## Remove .venv and caches; the data in .local stays.
	rm -rf .venv .package .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache staticfiles
	find . -name __pycache__ -not -path './.local/*' -prune -exec rm -rf {} +

dev: install ## The same as `make run`, but the server starts again when its code or a template changes.
	@exec $(BIN)/python manage.py local --reload --port "$(PORT)" --agents "$(AGENTS)" --state-dir "$(STATE_DIR)"

build: package ## Make the package for Lambda and the container image; fails without docker or podman.
	@engine=$$(command -v docker || command -v podman) || { \
	  echo "The package is in .package, but there is no image: install docker or podman and run this again." >&2; exit 1; }; \
	"$$engine" info >/dev/null 2>&1 || { \
	  echo "The package is in .package, but there is no image: $$engine does not run. Start it and run this again." >&2; exit 1; }; \
	"$$engine" build --tag "$(IMAGE)" .

# A second judge of what we think DynamoDB does. What moto is known to answer wrongly is in tests/moto_known.py.
test-moto: install ## The tests of the records once more, on moto in place of ministack.
	EMULATOR=moto $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -p tests.moto_known $(MOTO)

# Keyway: every target goes through deploy/bootstrap.py, which needs only Python 3.11 with pip or venv.
PYTHON ?= python3
BOOTSTRAP = $(PYTHON) deploy/bootstrap.py
ARGS ?=

.PHONY: help up demo test check bench lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Options travel in ARGS: make up ARGS="--port-base 0 --gateways 2"'

up: ## start the local stack: PostgreSQL, Kafka, gateways, workers; Ctrl-C ends it, the data stay
	@exec $(BOOTSTRAP) local keyway up $(ARGS)

demo: ## play a month of a KA against the local stack (its own, or the one of make up)
	@exec $(BOOTSTRAP) local keyway demo $(ARGS)

test: ## the whole test suite, real PostgreSQL and Kafka included
	@exec $(BOOTSTRAP) dev pytest $(ARGS)

check: ## format, lint, types, import contracts, quick tests
	@$(BOOTSTRAP) dev ruff format --check .
	@$(BOOTSTRAP) dev ruff check .
	@$(BOOTSTRAP) dev mypy
	@$(BOOTSTRAP) dev lint-imports
	@$(BOOTSTRAP) dev pytest tests/unit tests/contract tests/conformance tests/architecture

bench: ## the comparisons, side by side on this machine
	@exec $(BOOTSTRAP) local keyway bench $(ARGS)

lock: ## resolve all versions anew: requirements/*.txt and keyway/localstack/jars.lock
	@exec $(BOOTSTRAP) local python -m keyway.localstack.relock

# One word per chore. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test servers check bench chaos docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(VENV)/.demo  ## parse the standard library in a pool: then on worker processes, one killed
	@$(BIN)/python examples/local/stdlib_census.py
	@$(BIN)/python examples/distributed/census_survives_a_kill.py

# Tests wait more than they work: four processes keep two cores busy. Who has done its share takes of another's.
test: $(VENV)/.test servers  ## set up all that the tests need, then run them
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal

# The tests start servers of their own from these binaries (binary:package). Root on Debian installs what is missing;
# elsewhere the tests that need it are skipped, and say so. mongod has no package there.
SERVERS := redis-server:redis-server rabbitmq-server:rabbitmq-server memcached:memcached \
           postgres:postgresql mariadbd:mariadb-server

servers:
	@missing=; for one in $(SERVERS); do \
	  ls /usr/sbin/$${one%:*} /usr/lib/postgresql/*/bin/$${one%:*} 2>/dev/null | grep -q . || \
	  command -v $${one%:*} >/dev/null || missing="$$missing $${one#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing ..."; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends $$missing >/dev/null || true; fi

check: $(VENV)/.check  ## lint, types, and the direction of imports
	$(BIN)/ruff check dingo tests examples bench
	$(BIN)/ruff format --check dingo tests examples bench
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench .venv-arq servers  ## compare with other pools and task queues; writes bench/results/
	$(BIN)/python bench/local.py
	$(BIN)/python bench/brokers.py

# arq wants a redis-py that the others no longer take. Without it the benchmark says so and goes on.
.venv-arq: | $(BIN)/python
	@$(BIN)/python -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check 'arq>=0.26' || true

chaos: $(VENV)/.test  ## kill workers, callers and servers while they work, and count what is lost
	$(BIN)/python bench/chaos.py

docs: $(VENV)/.docs  ## build the site into docs/_build/html
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:  ## remove the virtual environment and everything built
	rm -rf $(VENV) docs/_build build dist

# On Debian, venv lives in a package of its own; root may install it, others are told its name.
$(BIN)/python:
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "python3-venv is missing: install it (Debian: apt install python3-venv)" >&2; exit 1; fi; }

$(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for make $* ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

# What one does with a checkout. "make" alone lists it.

PYTHON = python3
# An interpreter that was chosen gets a virtualenv of its own.
VENV = .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
HOST = 127.0.0.1
PORT = 8888
ARGS =
ONLY =
# Some tests wait for what they have started: one more than there are processors, and at most five.
WORKERS = $(shell $(PYTHON) -c "import os; print(min(os.cpu_count(), 4) + 1)")

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL = help
.PHONY: help serve tests lint format docs moto bench browser clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(INSTALLED)  ## Run Kinto with the plugin (HOST=127.0.0.1 PORT=8888); Ctrl-C stops it
	@$(BIN)/python scripts/serve.py $(HOST) $(PORT)

tests: $(INSTALLED_DEV) lint browser  ## Run the linters, then all tests with coverage; ARGS="-k foo" runs some, without gate
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov $(if $(ARGS),--cov-fail-under=0) $(ARGS)

# A run without it says last which tests it left out; in CI they fail.
browser:
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium, once."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	        apt-get install -qq -y --no-install-recommends chromium; } >/dev/null || true; \
	fi

lint: $(INSTALLED_DEV)  ## Run ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(INSTALLED_DEV)  ## Let ruff mend and format the code
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(INSTALLED_DEV)  ## Build the documentation in build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q docs build/docs

moto: $(INSTALLED_DEV)  ## Run a fake Amazon S3 on http://127.0.0.1:6000; Ctrl-C stops it
	@$(BIN)/python -m moto.server -H 127.0.0.1 -p 6000

bench: $(INSTALLED_DEV)  ## Measure it beside the released plugin; ONLY="growth s3" measures some of it
	$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

clean:  ## Remove virtualenvs, caches and builds; uploaded files stay
	rm -rf .venv .venv-* build dist screenshots *.egg-info .coverage .coverage.* .*_cache .tox
	find . -name __pycache__ -prune -exec rm -rf {} +

# Touched last, so that an installation that was cut short is done again.
$(INSTALLED): setup.py pyproject.toml
	@echo "Installing kinto-attachment in $(VENV), once."
	@$(PYTHON) -m venv $(VENV)
	@echo '*' > $(VENV)/.gitignore
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Python's own pip may be older than "--group".
$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing what the tests need in $(VENV), once."
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

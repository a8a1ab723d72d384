# Development tasks. "make" lists them.

PYTHON = python3
# Each interpreter has a virtualenv of its own.
VENV = .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
HOST = 127.0.0.1
PORT = 8888
ARGS =
ONLY =
MINUTES =
STORE = local
# One more than there are processors, because some tests mostly wait; at most five.
WORKERS = $(shell $(PYTHON) -c "import os; print(min(os.cpu_count(), 4) + 1)")

BIN = $(VENV)/bin
# In the order of tests/support/groups.py.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev
# The package "ministack" wants another version of botocore.
STORES = .venv-stores
INSTALLED_STORES = $(STORES)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Without bytecode, each of the many processes compiles the plugin and its tests anew.
unexport PYTHONDONTWRITEBYTECODE

# Chromium is installed beside the tools and their run.
MAKEFLAGS += --jobs=2

.DEFAULT_GOAL = help
.PHONY: help serve check tests tests-stores lint format docs moto bench model chaos drill browser clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(INSTALLED)  ## Run Kinto with the plugin (HOST=127.0.0.1 PORT=8888); Ctrl-C stops it
	@$(BIN)/python scripts/serve.py $(HOST) $(PORT)

# Ends within minutes: what runs at every commit.
check: $(INSTALLED_DEV) lint  ## Run the linters, and the tests without servers and browsers
	$(PYTEST) --part=check

# The fast part first: if it finds something, the rest does not run.
ifeq ($(ARGS),)
tests: $(INSTALLED_DEV) lint browser
	$(PYTEST) --part=both --cov
else
tests: $(INSTALLED_DEV)
	$(PYTEST) $(ARGS)
endif
tests:  ## Run the linters, then all tests with coverage; ARGS="-k foo" runs some tests alone

# What does not work there is an expected failure: docs/storage.rst has the limits.
tests-stores: $(INSTALLED_DEV) $(INSTALLED_STORES)  ## Run the tests of S3 on MiniStack and rclone
	PATH="$$PATH:$(CURDIR)/$(STORES)/bin" $(PYTEST) -m more_stores $(ARGS)

# Without Chromium, its tests are skipped, and listed at the end of the run; in CI they fail. The
# one that never has a window takes a third of the time, and shows no PDF.
browser:
	@if ! { command -v chromium-headless-shell && command -v chromium; } >/dev/null \
	        && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium, once."; \
	    { apt-get update -qq; for package in chromium-headless-shell chromium; do \
	        DEBIAN_FRONTEND=noninteractive \
	            apt-get install -qq -y --no-install-recommends $$package; done; } >/dev/null || true; \
	fi

lint: $(INSTALLED_DEV)  ## Run ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(INSTALLED_DEV)  ## Fix and format the code with ruff
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(INSTALLED_DEV)  ## Build the documentation in build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q docs build/docs

moto: $(INSTALLED_DEV)  ## Run a fake Amazon S3 on http://127.0.0.1:6000; Ctrl-C stops it
	@$(BIN)/python -m moto.server -H 127.0.0.1 -p 6000

bench: $(INSTALLED_DEV)  ## Compare the plugin with the released one; ONLY="growth s3" selects sections
	$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

chaos: $(INSTALLED_DEV)  ## Upload to two servers while processes, database and store fail (MINUTES=10 STORE=local, s3 or gcloud)
	@$(BIN)/python -W ignore -m tests.chaos --minutes $(or $(MINUTES),10) --store $(STORE) $(ARGS)

# Debian, systemd and all of deploy/README.rst: as root, in about ten minutes.
drill: $(INSTALLED_DEV)  ## Set up deploy/ on a Debian of its own, and let it fail in many ways
	@$(BIN)/python -m tests.deploy.drill

# Random days of a site, see tests/model; MODEL_SEED=1 MINUTES=0 repeats what a run has printed.
model: $(INSTALLED_DEV)  ## Try random days on a model for MINUTES=30; a failure prints its steps
	MODEL_MINUTES=$(or $(MINUTES),30) $(BIN)/python -m pytest -n 2 tests/model $(ARGS)

clean:  ## Remove virtualenvs, caches and builds; uploaded files stay
	rm -rf .venv .venv-* build dist screenshots *.egg-info .coverage .coverage.* .*_cache .tox
	find . -name __pycache__ -prune -exec rm -rf {} +

# Touched last, so that an interrupted installation is repeated. The pip that comes with Python may
# be old: it takes twice the time, and does not know "--group". The new one passes on a warning of
# setuptools about what is editable.
$(INSTALLED): setup.py pyproject.toml
	@echo "Installing kinto-attachment in $(VENV), once."
	@$(PYTHON) -m venv $(VENV)
	@echo '*' > $(VENV)/.gitignore
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Bytecode is written when a module is imported: most never are.
$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing the development tools in $(VENV), once."
	@$(BIN)/python -m pip install --quiet --no-compile --group dev
	@touch $@

$(INSTALLED_STORES): pyproject.toml
	@echo "Installing more S3 servers in $(STORES), once."
	@$(PYTHON) -m venv $(STORES)
	@echo '*' > $(STORES)/.gitignore
	@$(STORES)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(STORES)/bin/python -m pip install --quiet --group stores
	@touch $@

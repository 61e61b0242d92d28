# `make demo` shows what visir does, `make test` checks it; both make .venv first.
# Needs Python 3.11 or newer with venv, and make; the tests also Chromium. PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := $(BIN)/uv
INSTALLED := .venv/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set to 1, as in many containers, every process compiles PyTorch's sources anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: venv demo test check lint docs lock clean

demo: venv
	$(BIN)/visir demo --out runs/demo

test check: export OMP_NUM_THREADS ?= 1

test: lint
	@command -v chromium > /dev/null || { echo "the search page is tested in Chromium; on Debian: apt-get install chromium"; exit 1; }
	MPLBACKEND=Agg $(BIN)/python -m pytest

# The fast tests, for while one works; `make test` runs all.
check: lint
	MPLBACKEND=Agg $(BIN)/python -m pytest -m "not slow"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv
	$(UV) pip install -q --python $(BIN)/python --no-build-isolation -c requirements.lock -e ".[docs]"
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

venv: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visir needs Python 3.11 or newer; name one: make PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip' || { echo "the module venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	test -x $(UV) || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q uv==$(UV_VERSION); }
	$(UV) pip install -q --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# Keeps the versions that are pinned already; `make lock UPGRADE=--upgrade` takes newer ones.
lock: venv
	$(UV) pip compile -q pyproject.toml --extra dev --extra pretrain --extra export \
	  --extra postgres --extra serve --extra video --extra hog --universal --generate-hashes \
	  --no-header --no-annotate $(UPGRADE) -o requirements.lock

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache

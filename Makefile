# Two commands on a bare machine with Python 3.10 or newer: `make demo` and `make test`.
# Each makes its own `.venv`, installs what it needs, and runs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
CPU    := --extra-index-url https://download.pytorch.org/whl/cpu

.PHONY: demo test test-oldest lint format docs bench check clean

demo: $(VENV)/demo                 ## train healthy, broken and safe side by side, and look
	$(BIN)/python -m safeloss demo

test: $(VENV)/test                 ## the whole suite: laws, tables, doctests
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(VENV)/lint                 ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright

# On a bare machine with Python 3.10 or newer, pip and make: `make demo`, `make test`.
# Each makes its own environment, installs what it needs, and runs.

PYTHON ?= python3
PIP     = python -m pip --quiet --disable-pip-version-check

.PHONY: demo test coverage test-oldest lint bench gate docs golden clean

demo: .venv/demo     ## healthy, broken and safe, trained side by side on real data
	.venv/bin/python -m safeloss demo

test: .venv/test     ## the whole suite, on all cores
	.venv/bin/python -m pytest -n auto --dist loadfile

coverage: .venv/test ## the whole suite, and the branches that it leaves out
	.venv/bin/python -m pytest -n auto --dist loadfile --cov --cov-report=term

lint: .venv/lint     ## format, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/pyright --pythonpath .venv/bin/python

bench: .venv/bench   ## times and instruction counts against native; QUICK=--quick for fewer
	.venv/bin/python -m benchmarks $(QUICK)
	.venv/bin/python -m benchmarks.instructions --functions

gate: .venv/test     ## the instructions of a call: needs valgrind, and fails when they grow
	.venv/bin/python -m benchmarks.instructions --gate

test-oldest: .venv-oldest/test ## the suite on the oldest torch, jaxtyping and beartype
	.venv-oldest/bin/python -m pytest

.PHONY: test-trainers test-trainers-quick
test-trainers: .venv-trainers/vision ## safe losses in the trainers that people use: their real packages
	.venv-trainers/bin/python -m pytest tests/trainers

test-trainers-quick: .venv-trainers/trainers ## without fastai and segmentation-models-pytorch, as CI runs it
	.venv-trainers/bin/python -m pytest -n 2 --dist loadfile tests/trainers

docs: .venv/test     ## rewrite what is generated in the pages
	.venv/bin/python docs/pages.py

golden: .venv/test   ## rewrite the golden messages
	.venv/bin/python -m pytest tests/test_errors.py --golden

clean:
	rm -rf .venv .venv-oldest .venv-trainers build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache

# One stamp for each set of packages; remade when what is asked for changes.
.venv/demo: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	.venv/bin/$(PIP) install --constraint constraints.txt --editable ".[demo]"
	touch $@

.venv/bench: .venv/demo
	.venv/bin/$(PIP) install --constraint constraints.txt --editable ".[bench]"
	touch $@

.venv/test: .venv/demo
	.venv/bin/$(PIP) install "pip>=25.1"
	.venv/bin/$(PIP) install --constraint constraints.txt --group test
	touch $@

.venv/lint: .venv/test
	.venv/bin/$(PIP) install --constraint constraints.txt --group lint
	touch $@

.venv-oldest/test: pyproject.toml constraints-oldest.txt
	test -d .venv-oldest || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/$(PIP) install "pip>=25.1"
	.venv-oldest/bin/$(PIP) install --constraint constraints-oldest.txt --editable ".[demo]" --group test
	touch $@

.venv-trainers/trainers: pyproject.toml constraints.txt
	test -d .venv-trainers || $(PYTHON) -m venv .venv-trainers
	.venv-trainers/bin/$(PIP) install "pip>=25.1"
	.venv-trainers/bin/$(PIP) install --constraint constraints.txt --editable ".[demo]" --group test --group trainers
	touch $@

.venv-trainers/vision: .venv-trainers/trainers
	.venv-trainers/bin/$(PIP) install --constraint constraints.txt --group trainers-vision
	touch $@

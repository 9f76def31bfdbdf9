# On a bare machine with Python 3.10 or newer, pip and make: `make demo`, `make test`.
# Each makes its own environment, installs what it needs, and runs.

PYTHON ?= python3
# Python itself compiles what is imported: a small part of what is installed.
INSTALL = python -m pip --quiet --disable-pip-version-check install --no-compile

.PHONY: demo test test-trainers test-trainers-quick coverage test-oldest test-newest test-nightly lint bench gate docs site site-serve dist golden clean

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

# The whole suite, nightly tests included, on the oldest torch, jaxtyping and beartype that are
# supported, on the newest, and on the torch of last night.
test-oldest test-newest test-nightly: test-%: .venv-%/test
	.venv-$*/bin/python -m pytest -m ""

test-trainers: .venv-trainers/vision ## safe losses in the trainers that people use: their real packages
	.venv-trainers/bin/python -m pytest tests/trainers

test-trainers-quick: .venv-trainers/trainers ## without fastai and segmentation-models-pytorch, as CI runs it
	.venv-trainers/bin/python -m pytest -n 2 --dist loadfile tests/trainers

docs: .venv/test     ## rewrite what is generated in the pages
	.venv/bin/python docs/pages.py

site: .venv/site     ## the site of the docs, into build/site; a broken link or anchor stops it
	.venv/bin/python -m mkdocs --quiet build --strict

site-serve: .venv/site ## the same, shown on http://127.0.0.1:8000 and built anew when a page changes
	.venv/bin/python -m mkdocs serve

dist: .venv/dist     ## the wheel and the sdist, into dist, and a look inside
	rm -rf dist
	.venv/bin/python -m build
	.venv/bin/python -m twine check --strict dist/*
	.venv/bin/python docs/distributions.py

golden: .venv/test   ## rewrite the golden messages
	.venv/bin/python -m pytest tests/test_errors.py --golden

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache

# One stamp for each set of packages; remade when what is asked for changes.
.venv/demo: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	.venv/bin/$(INSTALL) --constraint constraints.txt --editable ".[demo]"
	touch $@

.venv/bench: .venv/demo
	.venv/bin/$(INSTALL) --constraint constraints.txt --editable ".[bench]"
	touch $@

.venv/test: .venv/demo
	.venv/bin/$(INSTALL) "pip>=25.1"
	.venv/bin/$(INSTALL) --constraint constraints.txt --group test
	touch $@

.venv/lint: .venv/test
	.venv/bin/$(INSTALL) --constraint constraints.txt --group lint
	touch $@

.venv/site: .venv/demo
	.venv/bin/$(INSTALL) "pip>=25.1"
	.venv/bin/$(INSTALL) --constraint constraints.txt --group site
	touch $@

.venv/dist: .venv/demo
	.venv/bin/$(INSTALL) "pip>=25.1"
	.venv/bin/$(INSTALL) --group dist
	touch $@

constraint-oldest = --constraint constraints-oldest.txt
index-nightly     = --pre --index-url https://download.pytorch.org/whl/nightly/cpu

.venv-%/test: pyproject.toml constraints-oldest.txt
	test -d .venv-$* || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/$(INSTALL) "pip>=25.1"
	.venv-$*/bin/$(INSTALL) --upgrade $(constraint-$*) $(index-$*) torch
	.venv-$*/bin/$(INSTALL) $(constraint-$*) --editable ".[demo]" --group test
	touch $@

.venv-trainers/trainers: pyproject.toml constraints.txt
	test -d .venv-trainers || $(PYTHON) -m venv .venv-trainers
	.venv-trainers/bin/$(INSTALL) "pip>=25.1"
	.venv-trainers/bin/$(INSTALL) --constraint constraints.txt --editable ".[demo]" --group test --group trainers
	touch $@

.venv-trainers/vision: .venv-trainers/trainers
	.venv-trainers/bin/$(INSTALL) --constraint constraints.txt --group trainers-vision
	touch $@

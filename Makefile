PYTHON ?= python3
PIP = .venv/bin/python -m pip
INSTALL = $(PIP) install --quiet --constraint constraints.txt --editable
PINS = pyproject.toml constraints.txt

.PHONY: demo test lint format install clean

demo: .venv/.runtime
	.venv/bin/python tasks/distill.py

test: lint
	.venv/bin/python -m pytest

lint: .venv/.test
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

format: .venv/.test
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

install: .venv/.test

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find engine tasks tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp is newer than the pins it was installed from, so that a second call installs nothing.
.venv/.runtime: $(PINS) | .venv/bin/pip
	@echo "Installing into .venv; the first time this takes some minutes."
	$(INSTALL) .
	@touch $@

.venv/.test: $(PINS) | .venv/bin/pip
	@echo "Installing into .venv with the tools for tests; the first time this takes some minutes."
	$(INSTALL) ".[test]"
	@touch $@ .venv/.runtime

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "vldistill needs Python 3.11 or later, but '$(PYTHON)' is not: name another with make PYTHON=python3.12."; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	$(PIP) install --quiet 'pip>=23.1'

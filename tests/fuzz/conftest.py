"""The seed of the damage, at the end of the report."""

import pytest

from tests.fuzz.seeds import SEED, VARIABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how this run's damage is repeated."""
    terminalreporter.write_line(f"tests/fuzz: {VARIABLE}={SEED} repeats the damage of this run")

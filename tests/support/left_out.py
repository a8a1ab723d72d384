"""Tests that were left out, because something is missing here: said last.

Those that are marked ``clients`` fail instead in CI, where what they need can be installed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, such a test that is skipped is one that failed."""
    report = yield
    needed = IN_CI and item.get_closest_marker("clients") is not None
    if needed and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI leaves no test out: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """Name them after everything else, by the reason."""
    yield
    tests: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        tests.setdefault(_reason(report), []).append(report.nodeid)
    for reason, names in tests.items():
        terminalreporter.write_sep("=", f"{len(names)} left out: {reason}", yellow=True)
        for name in names:
            terminalreporter.write_line(name)


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return reason.removeprefix("Skipped: ")

"""The two parts of the suite: ``--part=check`` runs at every commit, ``--part=rest`` is all else.

``--part=both`` runs one after the other, and ends between them if a test has failed. Each worker
collects the tests once.

A test belongs to the rest if it uses a server or a browser: it is in one of ``FOLDERS``, a fixture
of ``SERVERS`` is among those that it uses, itself or through others, or a parameter is one of
``STORES``. What none of them tells, the marker ``apart`` says.

Of the cases of a test that is marked ``sampled``, all run with objects in memory, and one with
objects in PostgreSQL: what they differ in is decided before the storage is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDERS = {"clients", "deploy", "live", "scripts"}
"""Their tests look at running programs."""

SERVERS = {
    *("browser", "kinto_database", "live_kinto", "postgresql", "served", "server"),
    *("gcs", "moto", "s3", "seaweedfs", "seaweedfs_server"),
}
"""Fixtures that start a program, or a server in this process."""

STORES = {"gcloud", "gcs", "ministack", "moto", "postgresql", "rclone", "s3", "seaweedfs"}
"""Parameters for which a fixture asks for one of them while the test runs."""

FIRST_PART = "first_part"
"""The marker of a test of the first part. Its report has it, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=("check", "rest", "both"),
        help="run the tests without servers and browsers (check), the others (rest), or, if those "
        "pass, the others after them (both)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{FIRST_PART}: set by itself; see tests/support/parts.py")
    # Where the reports of all workers come together.
    if config.getoption("part") == "both" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Both())


class _Both:
    """Ends the run if a test of the first part has failed, as soon as one of the rest begins."""

    def __init__(self) -> None:
        self._failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if FIRST_PART in report.keywords:
            self._failed |= report.failed
        elif self._failed:
            pytest.exit("The first part has failed.", returncode=pytest.ExitCode.TESTS_FAILED)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What the first part leaves out for its folder is not even imported."""
    is_left_out = config.getoption("part") == "check" and collection_path.name in FOLDERS
    return True if is_left_out and collection_path.is_dir() else None


def needs_servers(item: pytest.Item) -> bool:
    """Whether the test belongs to the rest."""
    if item.get_closest_marker("apart") is not None:
        return True
    if not FOLDERS.isdisjoint(Path(item.nodeid.partition("::")[0]).parts):
        return True
    if not SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
        return True
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    return any(isinstance(value, str) and value in STORES for value in values)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("part")
    others = _repeated(items)
    first = [item for item in items if not needs_servers(item)]
    if part == "check":
        others |= {*items} - {*first}
    elif part == "rest":
        others |= {*first}
    for item in first:
        item.add_marker(FIRST_PART)
    items[:], removed = (
        [item for item in items if item not in others],
        [item for item in items if item in others],
    )
    if part == "both":
        items.sort(key=lambda item: item.get_closest_marker(FIRST_PART) is None)
    if removed:
        config.hook.pytest_deselected(items=removed)


def _repeated(items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases of a test that is marked ``sampled`` in PostgreSQL, but for the first one."""
    seen = set()
    repeated = set()
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None or item.get_closest_marker("sampled") is None:
            continue
        if callspec.params.get("backend") == "postgresql":
            test = item.nodeid.partition("[")[0]
            if test in seen:
                repeated.add(item)
            seen.add(test)
    return repeated


def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """A test of the first part that asks for a server while it runs would make it slow."""
    if fixturedef.argname in SERVERS and request.config.getoption("part") in ("check", "both"):
        # The public ``node`` of a fixture of the session is the session.
        item = request._pyfuncitem
        if item.get_closest_marker(FIRST_PART) is not None:
            pytest.fail(f"{item.nodeid} uses {fixturedef.argname}: mark it as apart")

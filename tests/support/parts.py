"""The two parts of the suite: ``--part=check`` runs at every commit, ``--part=rest`` is all else.

A test belongs to the rest if it uses a server or a browser: it is in one of ``FOLDERS``, a fixture
of ``SERVERS`` is among those that it uses, itself or through others, or a parameter is one of
``STORES``. What none of them tells, the marker ``apart`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDERS = {"clients", "deploy", "live", "scripts"}
"""Their tests look at running programs."""

SERVERS = {
    *("browser", "kinto_database", "live_kinto", "postgresql", "served", "server"),
    *("gcs", "moto", "s3", "s3_servers", "seaweedfs"),
}
"""Fixtures that start a program, or a server in this process."""

STORES = {"gcloud", "gcs", "ministack", "moto", "postgresql", "rclone", "s3", "seaweedfs"}
"""Parameters for which a fixture asks for one of them while the test runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=("check", "rest"),
        help="run the tests without servers and browsers (check), or the others (rest)",
    )


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("part")
    if part is None:
        return
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (chosen if needs_servers(item) == (part == "rest") else others).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=others)


def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """A test of the first part that asks for a server while it runs would make it slow."""
    if fixturedef.argname in SERVERS and request.config.getoption("part") == "check":
        pytest.fail(f"{request.node.nodeid} uses {fixturedef.argname}: mark it as apart")

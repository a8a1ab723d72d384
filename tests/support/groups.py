"""Which tests run in one worker, one after the other (``--dist loadgroup`` of pytest-xdist).

Those of a file use the same servers and the same started applications; those of some folders share
what takes longer still to set up. What takes longest begins first, so that no worker is left with
it in the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.parts import needs_servers

FIRST = [
    *("deploy-disk", "live", "browser", "browser-demo", "deploy-s3"),
    *("tests/storage/test_contract.py", "tests/storage/test_resumable.py", "scripts"),
    *("tests/model/test_days.py", "tests/migrations/test_released.py"),
    *("tests/commands/test_copy.py", "tests/clients/test_tus_interrupted.py"),
    *("tests/storage/test_s3.py", "tests/views/test_on_s3.py", "tests/project/test_docs.py"),
    *("tests/project/test_bare_installation.py", "tests/project/test_benchmarks.py"),
    *("tests/storage/test_gcloud.py", "tests/clients/test_tus_js.py"),
    *("tests/views/test_private_reading.py", "tests/views/test_ways_out.py"),
]
"""The groups that take longest, the longest first."""

ALONE = {"test_gcloud_kills.py", "test_kills.py", "test_vanishing_clients.py"}
"""Files of ``live`` in which sites are killed and waited for: another worker can do so."""


def group_of(path: Path, fixtures: set[str], params: dict[str, Any]) -> str:
    """The group of a test in the file ``path``, relative to the checkout."""
    folder = path.parts[1]
    if folder == "deploy" and "site" in params:
        # One installation each, with files on the disk and on S3.
        return f"deploy-{params['site']}"
    if folder == "clients" and "browser" in fixtures:
        # The demo has a server of its own: another worker pays with a Chromium only.
        return "browser-demo" if path.parts[2] == "demo" else "browser"
    if folder == "scripts" or (folder == "live" and path.name not in ALONE):
        return folder
    return path.as_posix()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not getattr(config.option, "loadgroup", False):
        return
    places: dict[str, int] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        path = item.path.relative_to(config.rootpath)
        fixtures = {*getattr(item, "fixturenames", ())}
        group = group_of(path, fixtures, callspec.params if callspec else {})
        place = FIRST.index(group) if group in FIRST else len(FIRST) + len(places)
        # Those of the first part begin before all of the rest, also before that of their file.
        if config.getoption("part") == "both" and not needs_servers(item):
            group = f"check {group}"
        item.add_marker(pytest.mark.xdist_group(group))
        places.setdefault(group, place)
    items.sort(key=lambda item: places[next(item.iter_markers("xdist_group")).args[0]])


def pytest_collection_finish(session: pytest.Session) -> None:
    """pytest-xdist tells by the names of tests in which group they are: not with every pytest."""
    names = [item.nodeid for item in session.items if hasattr(session.config, "workerinput")]
    if getattr(session.config.option, "loadgroup", False) and not all("@" in n for n in names):
        raise pytest.UsageError("The tests of a group do not run in one worker.")

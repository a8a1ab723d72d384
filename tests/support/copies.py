"""Two stores and the ``kinto-attachment copy`` from one to the other: the fixtures of its tests,
which import them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinto_attachment.attachments.site import MARKER
from tests.conftest import kinto_settings_with
from tests.support.inventory import Bucket, Folder, GoogleBucket, Stored
from tests.support.servers.gcs import GcsServer
from tests.support.servers.kinto import ini

WAYS = [
    ("local", "local"),
    ("local", "seaweedfs"),
    ("local", "gcs"),
    ("s3", "local"),
    ("s3", "moto"),
    ("s3", "gcs"),
]
"""From where to where."""

every_way = pytest.mark.parametrize(("where", "to"), WAYS, ids="-".join)
to_every_kind = pytest.mark.parametrize(
    ("where", "to"), [("s3", "local"), ("local", "seaweedfs"), ("s3", "gcs")], ids="-".join
)
to_clouds = pytest.mark.parametrize("to", ["seaweedfs", "gcs"])
to_s3 = pytest.mark.parametrize("to", ["seaweedfs"])


class Copied:
    """What is stored at the target, seen behind the plugin's back, and the ini file of it."""

    def __init__(self, stored: Stored, path: Path) -> None:
        self.stored = stored
        self.ini = path

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a server that uses it."""
        return {"aws.bucket": None, **self.stored.settings}

    def names(self) -> list[str]:
        return self.stored.names()

    def contents(self) -> dict[str, bytes]:
        return contents(self.stored)

    @property
    def marker(self) -> str:
        return self.stored.read(MARKER).decode()


def contents(stored: Stored) -> dict[str, bytes]:
    """What is stored, by name."""
    return {name: stored.read(name) for name in stored.names()}


@pytest.fixture(scope="session")
def gcs_of_all() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs(gcs_of_all: GcsServer) -> Iterator[GcsServer]:
    yield gcs_of_all
    gcs_of_all.reset()
    gcs_of_all.disconnect()


@pytest.fixture
def to() -> str:
    """Where files are copied to."""
    return "local"


@pytest.fixture
def make_target(to: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Copied]:
    """``make_target({"acl": "private"})``: the target, with these settings of the plugin."""
    stored: Stored
    if to == "local":
        stored = Folder(tmp_path / "target")
    elif to == "gcs":
        stored = GoogleBucket(request.getfixturevalue(to))
    else:
        stored = Bucket(request.getfixturevalue(to))

    def make(attachment: dict[str, Any] | None = None) -> Copied:
        path = tmp_path / "other.ini"
        of_plugin = {**stored.settings, **(attachment or {})}
        path.write_text(ini(kinto_settings_with({}, of_plugin, {}), 8888))
        return Copied(stored, path)

    return make


@pytest.fixture
def target(make_target: Callable[..., Copied]) -> Copied:
    return make_target()


@pytest.fixture
def copy(command: Callable[..., Any], target: Copied) -> Callable[..., Any]:
    """``copy("--dry-run", attachment={...})`` runs the command on a server with these settings."""

    def run(*options: str, **settings: Any) -> Any:
        return command("copy", "--to-ini", str(target.ini), "--json", *options, **settings)

    return run

"""The ``kinto-attachment`` command, beside a Kinto with its objects in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from pyramid import paster
from pyramid.config import global_registries

from kinto_attachment.attachments.site import SiteMark
from kinto_attachment.commands import main
from tests.conftest import KintoApp, KintoDatabase, Settings, kinto_settings_with
from tests.support.copies import (
    copy,
    gcs,
    gcs_of_all,
    make_target,
    target,
    to,
)
from tests.support.inventory import Stored
from tests.support.records import Record, kinto_settings, record, stored, where
from tests.support.servers.kinto import ini

__all__ = [
    "copy",
    "gcs",
    "gcs_of_all",
    "kinto_settings",
    "make_target",
    "record",
    "stored",
    "target",
    "to",
    "where",
]


class Result:
    """What a command answered."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        self.status = status
        self.output = output
        self.errors = errors

    @property
    def json(self) -> dict[str, Any]:
        """What it printed with ``--json``."""
        answer: dict[str, Any] = json.loads(self.output)
        return answer

    @property
    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json["findings"]
        return found

    @property
    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.json["counts"]
        return counts


@pytest.fixture
def backend(kinto_database: KintoDatabase) -> str:
    """There is nothing to look at in the memory of another process."""
    return "postgresql"


@pytest.fixture
def make_record(make_app: Callable[..., KintoApp], stored: Stored) -> Callable[..., Record]:
    """``make_record(attachment={...}, **settings)``: a record of a Kinto with these settings, in
    an existing collection; the record itself does not exist. Tests may damage what there is."""

    def make(**settings: Any) -> Record:
        app = make_app(**settings)
        # As if it had started for this test: its first upload marks the storage.
        app.registry.attachment_site = SiteMark(app.registry, app.registry.attachment_files)
        app.put_json("/v1/buckets/b", {})
        app.put_json("/v1/buckets/b/collections/c", {})
        return Record(app, stored, "/buckets/b/collections/c/records/r")

    return make


@pytest.fixture
def make_ini(kinto_settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """``make_ini(attachment={...}, **settings)``: an ini file of a server with these settings."""

    def make(attachment: dict[str, Any] | None = None, **settings: Any) -> Path:
        path = tmp_path / "kinto.ini"
        path.write_text(ini(kinto_settings_with(kinto_settings, attachment, settings), 8888))
        return path

    return make


@pytest.fixture(scope="session")
def started() -> dict[str, Any]:
    """The applications that commands have started, by their configuration."""
    return {}


@pytest.fixture
def anew(started: dict[str, Any]) -> Iterator[None]:
    """For tests that change what Kinto reads when it starts."""
    started.clear()
    yield
    started.clear()


@pytest.fixture
def started_once(started: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is run in this process starts no second Kinto with the same configuration:
    that takes longer than all else that it does."""
    start = paster.get_app

    def get_app(uri: str, name: str | None = None, options: Any = None) -> Any:
        configuration = Path(uri).read_text()
        if configuration not in started:
            started[configuration] = start(uri, name, options)
        app = started[configuration]
        # The request that a command gets is one of the last application.
        global_registries.add(app.registry)
        return app

    monkeypatch.setattr(paster, "get_app", get_app)


@pytest.fixture
def command(
    make_ini: Callable[..., Path], capfd: pytest.CaptureFixture[str], started_once: None
) -> Callable[..., Result]:
    """``command("gc", "--delete", attachment={...})`` runs it on a server with these settings."""

    def run(*arguments: str, attachment: dict[str, Any] | None = None, **settings: Any) -> Result:
        path = make_ini(attachment, **settings)
        # Nothing of this process's own transaction may be seen there.
        transaction.abort()
        capfd.readouterr()
        status = main(["--ini", str(path), *arguments])
        output = capfd.readouterr()
        return Result(status, output.out, output.err)

    return run


@pytest.fixture
def execute(kinto_database: Any) -> Callable[..., Any]:
    """Execute an SQL statement behind the server's back."""
    return kinto_database.execute  # type: ignore[no-any-return]

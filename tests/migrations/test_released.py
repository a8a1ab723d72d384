"""Coming from the plugin as it was released: its database, its files, then ``kinto migrate``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import transaction
from kinto.core.scripts import migrate

from kinto_attachment.commands import main
from kinto_attachment.commands.inventory_sql import STATES
from kinto_attachment.migrations import pending_links
from tests.commands.conftest import Result, started, started_once
from tests.conftest import KintoApp, KintoDatabase, Settings, _app, _forget_clients
from tests.support.forms import CONTENT_TYPE, file_part, form
from tests.support.inventory import Folder
from tests.support.servers.kinto import LiveKinto, ini, kinto_migrate
from tests.support.servers.postgresql import PostgreSQL
from tests.support.servers.released import install

__all__ = ["started", "started_once"]

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

BASE_URL = "https://files.example.org/"
DATABASE = "written_by_the_released_plugin"
KEPT = {"kinto.attachment.resources.b.kept.keep_old_files": "true"}


def record_path(collection: str, record: str = "r") -> str:
    return f"buckets/b/collections/{collection}/records/{record}"


class Publisher:
    """What users and other plugins did while the released plugin ran."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.auth = ("alice", "secret")

    def request(self, method: str, path: str, **body: Any) -> Any:
        answer = self._session.request(method, f"{self._url}{path}", **body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def create_collection(self, collection: str) -> None:
        self.request("PUT", f"buckets/b/collections/{collection}")

    def attach(self, path: str, content: bytes) -> dict[str, Any]:
        files = {"attachment": ("file.txt", content, "text/plain")}
        attachment: dict[str, Any] = self.request("POST", f"{path}/attachment", files=files)
        return attachment

    def put(self, path: str, **data: Any) -> None:
        self.request("PUT", path, json={"data": data})


def publish_and_leave(publisher: Publisher) -> None:
    """Every way in which files and records of the released plugin come to differ."""
    publisher.request("PUT", "buckets/b")
    for collection in ("c", "preview", "main", "kept", "left"):
        publisher.create_collection(collection)

    attachment = publisher.attach(record_path("c"), b"published")
    publisher.put(record_path("preview"), attachment=attachment, title="preview")
    publisher.put(record_path("main"), attachment=attachment, title="main")

    publisher.attach(record_path("c", "replaced"), b"first")
    publisher.attach(record_path("c", "replaced"), b"second")
    publisher.attach(record_path("c", "deleted"), b"deleted")
    publisher.request("DELETE", record_path("c", "deleted"))

    # The released plugin notices neither of these.
    moved = publisher.attach(record_path("c", "moved"), b"moved on")
    publisher.put(record_path("main", "moved"), attachment=moved)
    publisher.put(record_path("c", "moved"), title="without a file")
    for collection in ("kept", "left"):
        publisher.attach(record_path(collection), b"left over")
        publisher.request("DELETE", f"buckets/b/collections/{collection}/records")


@pytest.fixture
def make_app(start_app):
    """The plugin looks for what waits at every start."""
    return start_app


@pytest.fixture(scope="session")
def released(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The interpreter that has the released plugin."""
    return install(request.config.cache.mkdir("released"))


@pytest.fixture(scope="session")
def released_files(
    postgresql: PostgreSQL, released: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder that the released plugin has written into, together with the database
    ``DATABASE``."""
    files = tmp_path_factory.mktemp("released") / "files"
    url = postgresql.create_database(DATABASE)
    settings = {
        "kinto.includes": "kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the tests",
        "kinto.storage_backend": "kinto.core.storage.postgresql",
        "kinto.storage_url": url,
        "kinto.permission_backend": "kinto.core.permission.postgresql",
        "kinto.permission_url": url,
        "kinto.attachment.base_path": str(files),
        "kinto.attachment.base_url": BASE_URL,
        "kinto.attachment.folder": "{bucket_id}/{collection_id}",
    }
    kinto_migrate(settings, python=released)
    with LiveKinto(settings, python=released) as kinto:
        publish_and_leave(Publisher(kinto.url))
    # Kinto's own tables, as somebody has them who came to this Kinto without the plugin.
    migrate({"registry": _app({**settings, "kinto.includes": ""}).registry})
    _forget_clients()
    return files


@dataclass
class Switched:
    """Kinto with this plugin, on a copy of what the released one has left."""

    app: KintoApp
    database: KintoDatabase
    settings: Settings
    folder: Path

    def migrate(self, *, dry_run: bool = False) -> None:
        migrate({"registry": self.app.registry}, dry_run=dry_run)

    def kinto_migrate(self) -> str:
        """As an operator does; return what it printed."""
        return kinto_migrate(self.settings)

    @property
    def waiting(self) -> int:
        return pending_links(self.app.registry.storage)

    def data(self, path: str) -> dict[str, Any]:
        data: dict[str, Any] = self.app.get(f"/v1/{path}").json["data"]
        return data

    def content(self, path: str) -> bytes:
        location = self.data(path)["attachment"]["location"]
        return (self.folder / location.removeprefix(BASE_URL)).read_bytes()

    def attach(self, path: str, content: bytes) -> None:
        self.app.request(
            f"/v1/{path}/attachment",
            method="POST",
            body=form([file_part(content)]),
            content_type=CONTENT_TYPE,
        )

    def delete(self, *paths: str) -> None:
        for path in paths:
            self.app.delete(f"/v1/{path}")

    def contents(self) -> set[bytes]:
        """Those of all files that are stored."""
        stored = Folder(self.folder)
        return {stored.read(name) for name in stored.names()}

    def rows(self) -> list[Any]:
        return self.database.execute(
            "SELECT id, parent_id, resource_name, data FROM objects ORDER BY 1, 2, 3"
        )


@pytest.fixture
def switched(
    released_files: Path,
    new_database: Callable[..., KintoDatabase],
    make_app: Callable[..., KintoApp],
    kinto_settings: Settings,
    files: Path,
) -> Switched:
    shutil.copytree(released_files, files)
    database = new_database(DATABASE)
    settings = {**kinto_settings, **database.settings, **KEPT}
    return Switched(make_app(**settings), database, settings, files)


@pytest.fixture
def migrated(switched: Switched) -> Switched:
    switched.migrate()
    return switched


@pytest.fixture
def run(
    switched: Switched, tmp_path: Path, capfd: pytest.CaptureFixture[str], started_once: None
) -> Callable[..., Result]:
    """``run("gc", "--delete")`` runs a command; the server may be another's by then."""
    ini_file = tmp_path / "kinto.ini"

    def run(*arguments: str) -> Result:
        ini_file.write_text(ini(switched.settings, port=0))
        transaction.abort()
        capfd.readouterr()
        status = main(["--ini", str(ini_file), *arguments])
        output = capfd.readouterr()
        return Result(status, output.out, output.err)

    return run


ALL = {b"published", b"second", b"moved on", b"left over"}


def test_nothing_is_lost_before_the_migration(switched):
    switched.delete(record_path("c"), record_path("preview"), record_path("main"))
    switched.attach(record_path("c", "replaced"), b"third")
    switched.app.delete("/v1/buckets/b")

    # The index of locations is not there yet either: what is new is left for gc.
    assert switched.contents() == ALL | {b"third"}


def test_the_log_says_what_to_run_until_it_has_run(switched, caplog, make_app):
    assert switched.waiting == 5

    make_app(**switched.settings)
    assert "5 attachments of an earlier version" in caplog.text
    assert "kinto migrate" in caplog.text

    switched.migrate()
    caplog.clear()
    make_app(**switched.settings)
    assert switched.waiting == 0
    assert "earlier version" not in caplog.text


def test_preflight_says_it_before_this_version_starts_and_writes_nothing(switched, run):
    switched.settings["kinto.attachment.max_size"] = "1000"
    before = switched.rows()

    result = run("preflight", "--json")

    assert result.status == 1
    assert [finding["kind"] for finding in result.findings[:2]] == ["refused", "decide"]
    assert result.counts["uploads to take over"] == 5
    assert result.counts["files without a record"] == 2
    assert result.counts["records that reference these files"] == 5
    assert switched.rows() == before
    assert switched.waiting == 5


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(switched, caplog):
    before = switched.rows()

    with caplog.at_level("INFO"):
        switched.migrate(dry_run=True)

    assert "5 links: 3 files, held by 5 records." in caplog.text
    assert "1 files that no record shows any more are kept." in caplog.text
    assert "1 files that no record shows any more are left" in caplog.text
    assert switched.rows() == before
    assert switched.waiting == 5


def test_the_migration_says_what_it_does_and_writes_once(switched, caplog):
    assert "5 links: 3 files, held by 5 records." in switched.kinto_migrate()
    after = switched.rows()

    with caplog.at_level("INFO"):
        switched.migrate()

    assert "No attachments of earlier versions are left." in caplog.text
    assert switched.rows() == after


def test_check_finds_nothing_wrong_afterwards(migrated, run):
    checked = run("check", "--hash", "--json")

    assert checked.status == 0, checked.output
    # What the released plugin left behind today may be an upload in flight.
    counts = {title: count for title, count in checked.counts.items() if title in STATES and count}
    assert counts == {"files referenced": 3, "files kept": 2}
    assert sum(counts.values()) == checked.counts["files stored"]


def test_records_are_as_they_were(switched):
    query = "SELECT id, parent_id, data, last_modified FROM objects WHERE resource_name = 'record'"
    before = sorted(switched.database.execute(query), key=str)

    switched.migrate()

    assert sorted(switched.database.execute(query), key=str) == before


def test_the_file_stays_when_the_original_goes(migrated):
    migrated.delete(record_path("c"))

    assert migrated.content(record_path("preview")) == b"published"
    assert migrated.content(record_path("main")) == b"published"


def test_the_file_goes_with_its_last_copy(migrated):
    migrated.delete(record_path("c"), record_path("preview"))
    assert b"published" in migrated.contents()

    migrated.delete(record_path("main"))
    assert b"published" not in migrated.contents()


def test_a_replaced_file_of_a_copied_record_stays_for_the_copies(migrated):
    migrated.attach(record_path("c"), b"new")

    assert migrated.content(record_path("main")) == b"published"


def test_a_replaced_file_that_nobody_else_shows_goes(migrated):
    migrated.attach(record_path("c", "replaced"), b"third")

    assert b"second" not in migrated.contents()


def test_a_copy_that_is_made_afterwards_holds_the_file(migrated):
    attachment = migrated.data(record_path("c"))["attachment"]
    path = f"/v1/{record_path('main', 'late')}"
    migrated.app.put_json(path, {"data": {"attachment": attachment}})

    migrated.delete(record_path("c"), record_path("preview"), record_path("main"))

    assert migrated.content(record_path("main", "late")) == b"published"


def test_metadata_is_guarded_afterwards(migrated):
    path = f"/v1/{record_path('main')}"
    attachment = migrated.data(record_path("main"))["attachment"]
    forged = {"data": {"attachment": {**attachment, "hash": "0" * 64}}}

    migrated.app.patch_json(path, {"data": {"title": "new"}})
    migrated.app.patch_json(path, forged, status=400)

    assert migrated.data(record_path("main")) | {"last_modified": 0} == {
        "attachment": attachment,
        "id": "r",
        "last_modified": 0,
        "title": "new",
    }


def test_a_record_that_has_moved_on_holds_nothing(migrated):
    migrated.delete(record_path("main", "moved"))

    assert b"moved on" not in migrated.contents()


def test_a_file_that_no_record_shows_is_kept_where_old_files_are(migrated):
    rows = migrated.database.execute(
        "SELECT data->>'name', data->'holders' FROM objects"
        " WHERE resource_name = 'attachments' AND data ? 'kept'"
    )

    ((name, holders),) = rows
    assert name.startswith("b/kept/")
    assert holders == []
    assert (migrated.folder / name).read_bytes() == b"left over"


def test_a_file_that_no_record_shows_is_otherwise_not_known_any_more(migrated):
    rows = migrated.database.execute(
        "SELECT count(*) FROM objects WHERE CAST(data AS text) LIKE '%%b/left/%%'"
    )

    assert rows == [(0,)]
    assert list((migrated.folder / "b" / "left").iterdir())


def test_uploads_between_the_switch_and_the_migration(switched):
    switched.attach(record_path("c"), b"between")
    switched.attach(record_path("c", "new"), b"new")

    switched.migrate()

    assert switched.content(record_path("c")) == b"between"
    assert switched.content(record_path("main")) == b"published"
    switched.delete(record_path("c"), record_path("c", "new"))
    assert switched.contents() == ALL
    switched.delete(record_path("preview"), record_path("main"))
    assert switched.contents() == ALL - {b"published"}


def test_there_and_back_and_there_again(migrated, released, run):
    files = ("replaced by it", "replaced twice", "detached", "deleted", "copied", "moved there")
    paths = {name: record_path("c", name.replace(" ", "-")) for name in files}
    for name, path in paths.items():
        migrated.attach(path, f"{name}, of this version".encode())
    before = migrated.contents()

    settings = {**migrated.settings, "kinto.includes": "kinto_attachment"}
    with LiveKinto(settings, python=released) as kinto:
        publisher = Publisher(kinto.url)
        work_with_the_released_plugin(publisher, paths)
    # What it replaces or deletes without having stored it stays.
    late = {b"late", b"new", b"twice", b"published anew"}
    assert migrated.contents() == before | late
    assert migrated.waiting == 4

    migrated.migrate()
    run("check", "--repair")

    assert migrated.waiting == 0
    assert run("check", "--hash").status == 0
    # Each file that it has stored goes with its record.
    migrated.delete(record_path("c", "late"), paths["replaced by it"], paths["replaced twice"])
    assert migrated.contents() == before | {b"published anew"}
    # Its copies are references.
    migrated.delete(paths["copied"], paths["moved there"])
    assert migrated.content(record_path("main", "copied")) == b"copied, of this version"
    deleted = run("gc", "--delete", "--older-than=0s", "--json").json["findings"]
    assert {file["kind"] for file in deleted} == {"gone"}
    assert migrated.contents() == ALL | {
        *(b"published anew", b"copied, of this version", b"moved there, of this version")
    }


def work_with_the_released_plugin(publisher: Publisher, paths: dict[str, str]) -> None:
    """Change records whose files are of this version, or were taken over by it."""

    def attachment_of(path: str) -> dict[str, Any]:
        attachment: dict[str, Any] = publisher.request("GET", path)["data"]["attachment"]
        return attachment

    publisher.attach(record_path("c", "late"), b"late")
    publisher.attach(record_path("c"), b"published anew")
    publisher.attach(paths["replaced by it"], b"new")
    for content in (b"once", b"twice"):
        publisher.attach(paths["replaced twice"], content)
    publisher.request("DELETE", f"{paths['detached']}/attachment")
    publisher.request("DELETE", paths["deleted"])
    publisher.put(record_path("main", "copied"), attachment=attachment_of(paths["copied"]))
    moved = attachment_of(paths["moved there"])
    publisher.put(record_path("main", "moved-there"), attachment=moved)
    publisher.put(paths["moved there"], title="without a file")

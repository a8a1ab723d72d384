"""The first upload of a process marks the file storage with the database's site id."""

from __future__ import annotations

import pytest
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.attachments.site import MARKER, SiteMark
from kinto_attachment.storage import NewFile, StorageUnavailable
from tests.support.tus import begin

SELECT = "SELECT value FROM metadata WHERE name = 'kinto_attachment_site'"
DELETE = "DELETE FROM metadata WHERE name = 'kinto_attachment_site'"
INSERT = "INSERT INTO metadata (name, value) VALUES ('kinto_attachment_site', %s)"

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
both = pytest.mark.parametrize("where", ["local", "s3"])


@pytest.fixture
def make_app(start_app):
    """Each has uploaded nothing yet."""
    return start_app


@pytest.fixture
def site_id(kinto_database):
    """The database's, which tests may delete."""
    [(value,)] = kinto_database.execute(SELECT)
    yield value
    kinto_database.execute(DELETE)
    kinto_database.execute(INSERT, value)


@pytest.fixture
def attaching(monkeypatch):
    """How often servers have looked for the marker."""
    looks = []
    write = SiteMark._write

    def counting(self):
        looks.append(self)
        return write(self)

    monkeypatch.setattr(SiteMark, "_write", counting)
    return looks


@on_postgresql
@both
def test_the_first_upload_writes_the_site_id(record, stored, site_id, attaching):
    record.attach(b"content")

    assert stored.read(MARKER) == f"{site_id}\n".encode()
    record.attach(b"other")
    record.other().attach(b"other")
    assert len(attaching) == 1


@on_postgresql
def test_a_resumable_upload_does_too(record, stored, site_id):
    begin(record, 5).patch(0, b"small")

    assert stored.read(MARKER) == f"{site_id}\n".encode()


@on_postgresql
def test_a_marker_stays(record, stored, site_id, make_app, caplog):
    record.attach(b"content")
    (record.folder / MARKER).write_text(f"{site_id}")
    again = type(record)(make_app(), stored, record.uri)

    again.attach(b"other")

    assert stored.read(MARKER) == site_id.encode()
    assert "another database" not in caplog.text


@on_postgresql
def test_the_storage_of_another_database_is_told(record, stored, site_id, caplog):
    record.folder.mkdir()
    (record.folder / MARKER).write_text("another")

    record.attach(b"content")

    assert stored.read(MARKER) == b"another"
    assert "The file storage belongs to another database" in caplog.text


@on_postgresql
def test_a_server_that_was_faster_has_marked_it(record, stored, site_id, monkeypatch):
    files = record.app.registry.getUtility(IFileStorage)
    stage = files.stage

    def stage_later(new):
        if new.exact_name:
            other = stage(NewFile(MARKER, exact_name=True))
            other.write(b"faster")
            other.finish()
        return stage(new)

    monkeypatch.setattr(files, "stage", stage_later)

    record.attach(b"content")

    assert stored.read(MARKER) == b"faster"
    assert [name for name in record.files() if name.endswith(".part")] == []


@on_postgresql
def test_a_database_that_was_not_migrated_marks_nothing_until_it_is(
    record, stored, site_id, kinto_database, attaching
):
    kinto_database.execute(DELETE)
    record.attach(b"content")
    record.attach(b"content")
    assert len(attaching) == 1
    assert not (record.folder / MARKER).exists()

    kinto_database.execute(INSERT, site_id)
    record.app.registry.attachment_site._next_try = 0
    record.attach(b"content")

    assert stored.read(MARKER) == f"{site_id}\n".encode()


@on_postgresql
def test_an_upload_succeeds_though_the_marker_cannot_be_written(
    record, site_id, monkeypatch, caplog
):
    def fail(*args):
        raise StorageUnavailable("disk full")

    monkeypatch.setattr("kinto_attachment.attachments.site.mark_site", fail)

    record.attach(b"content", status=201)

    assert record.content == b"content"
    assert f"{MARKER} could not be written" in caplog.text


@on_postgresql
def test_an_upload_that_fails_marks_nothing(record, attaching):
    record.app.put_json(
        "/v1/buckets/b/collections/c", {"data": {"schema": {"type": "object", "required": ["x"]}}}
    )

    record.attach(b"content", status=400)

    assert attaching == []
    assert record.files() == []


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_nothing_is_marked_where_objects_are_in_memory(record, attaching):
    record.attach(b"content")

    assert attaching == []
    assert not (record.folder / MARKER).exists()

"""Files that records reference although no event says so: the records themselves are asked."""

from __future__ import annotations

import hashlib
import logging
import threading

import pytest
import transaction
from kinto.core.storage import memory
from kinto.core.storage.exceptions import BackendError
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.attachments.attach import RecordAttachment
from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.references import References
from kinto_attachment.database import location_index
from tests.support.tus import begin

CONTENT = b"0123456789"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def unheard(record):
    """``unheard(record, attachment)``: what a plugin writes without an event; ``None`` deletes."""

    def write(of, attachment):
        parent_id, _, object_id = of.uri.rpartition("/records/")
        where = {"resource_name": "record", "parent_id": parent_id, "object_id": object_id}
        with transaction.manager:
            if attachment is None:
                of.app.registry.storage.delete(**where)
            else:
                of.app.registry.storage.update(**where, obj={"attachment": attachment})

    return write


@pytest.fixture
def published(record):
    """A record whose file was published by a copy in another collection."""
    record.attach(b"first")
    record.app.put_json("/v1/buckets/b/collections/preview", {})
    copy = record.other("r", "preview")
    copy.app.put_json(copy.path, {"data": {"attachment": record.data["attachment"]}})
    return copy


def test_a_workspace_that_was_rolled_back_keeps_its_file(record, published, unheard):
    first = record.data["attachment"]
    record.attach(b"second")
    unheard(record, first)

    record.app.delete("/v1/buckets/b/collections/preview")

    assert record.content == b"first"
    record.app.delete(record.path)
    assert record.files() == []


@pytest.mark.leaves("a record that is held by no row")
def test_a_record_that_was_restored_keeps_its_file(record, published, unheard):
    shown = record.data["attachment"]
    record.app.delete(record.path)
    unheard(record, shown)

    published.app.delete(published.path)

    assert record.content == b"first"


def test_a_record_that_was_deleted_unheard_can_be_created_with_plain_data(record, unheard):
    record.attach(b"first")
    unheard(record, None)

    plain = {"location": "https://elsewhere.example/x"}
    record.app.put_json(record.path, {"data": {"attachment": plain}}, status=201)

    assert record.data["attachment"] == plain
    assert record.files() == []


def test_a_subscriber_that_comes_later_may_write_the_file_back(record, subscribe):
    record.attach(b"first")
    first = record.data["attachment"]

    def write_back(event):
        for change in event.impacted_objects:
            if change["new"].get("title") == "back":
                parent_id, _, object_id = record.uri.rpartition("/records/")
                record.app.registry.storage.update(
                    "record", parent_id, object_id, {"attachment": first, "title": "back"}
                )

    subscribe(record.app, write_back)

    record.attach(b"second", data={"title": "back"})
    assert record.content == b"first"

    record.app.delete(record.path)
    assert not record.exists


@pytest.mark.parametrize("spelling", ["raw", "percent-encoded", "below another base URL"])
@pytest.mark.leaves("a record that is held by no row")
def test_a_location_may_be_spelled_otherwise(make_record, unheard, spelling):
    record = make_record(attachment={"randomize": "false"})
    record.attach(CONTENT, "a~b.txt")
    attachment = record.data["attachment"]
    location = attachment["location"]
    other = record.other()
    unheard(
        other,
        {
            **attachment,
            "location": {
                "raw": location,
                "percent-encoded": location.replace("a", "%61"),
                "below another base URL": f"http://elsewhere.example/x/{location[-6:]}",
            }[spelling],
        },
    )

    record.app.delete(record.path)

    assert len(record.files()) == (0 if spelling == "percent-encoded" else 1)


def test_a_file_with_another_hash_is_another_one(record, unheard):
    record.attach(CONTENT)
    attachment = record.data["attachment"]
    other = record.other()
    unheard(other, {**attachment, "hash": "0" * 64, "location": "http://x/" + record.files()[0]})

    record.detach()

    assert record.files() == []


def test_the_longest_name_is_meant(make_record, unheard):
    record = make_record(attachment={"randomize": "false", "resources.b.c.folder": "folder"})
    record.attach(CONTENT, "a.txt")
    record.app.put_json("/v1/buckets/b/collections/d", {})
    short = record.other("short", "d")
    short.attach(CONTENT, "a.txt")
    assert sorted(record.files()) == ["a.txt", "folder/a.txt"]
    unheard(record.other(), {**record.data["attachment"], "location": "http://x/folder/a.txt"})

    short.app.delete(short.path)
    assert record.files() == ["folder/a.txt"]

    record.app.delete(record.path)
    assert record.files() == ["folder/a.txt"]
    record.app.delete(record.other().path)


@pytest.mark.parametrize("path", ["", "/collections/c", "/collections/c/records"])
def test_records_that_go_together_do_not_keep_their_file(record, path):
    record.attach(CONTENT)
    copy = record.other()
    copy.app.put_json(copy.path, {"data": {"attachment": record.data["attachment"]}})

    record.app.delete(f"/v1/buckets/b{path}")

    assert record.files() == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.leaves("a file that gc finds")
def test_files_are_left_for_gc_while_the_index_is_missing(record, caplog, monkeypatch):
    monkeypatch.setattr(location_index, "_checked", {})
    monkeypatch.setattr(location_index, "_CHECK_SECONDS", -1)
    record.attach(CONTENT)
    client = record.app.registry.storage.client
    transaction.abort()
    location_index.drop(client)
    try:
        with caplog.at_level(logging.WARNING):
            record.detach()
    finally:
        transaction.abort()
        location_index.create(client)

    assert len(record.files()) == 1
    assert "left for gc" in caplog.text


@pytest.mark.parametrize(
    "location",
    ["x" * 1_000_000, "/" * 450_000, "https://" + "/x" * 450_000, 5, {"a": 1}, [], True, "\u2603"],
    ids=["long", "slashes", "segments", "number", "object", "list", "boolean", "snowman"],
)
def test_any_location_can_be_written(record, unheard, location):
    unheard(record, {"location": location})

    record.app.patch_json(record.path, {"data": {"title": "changed"}})
    record.attach(CONTENT)

    assert record.content == CONTENT


def test_an_upload_that_is_terminated_while_it_ends_leaves_no_file(record, monkeypatch):
    upload = begin(record)
    files = record.app.registry.getUtility(IFileStorage)
    resume = files.resume

    def resume_and_be_terminated(state):
        file = resume(state)
        finish = file.finish

        def finish_late(*args):
            name = finish(*args)
            _in_thread(upload.delete)
            return name

        file.finish = finish_late
        return file

    monkeypatch.setattr(files, "resume", resume_and_be_terminated)
    upload.patch(0, CONTENT, 404)

    assert record.files() == []
    assert not record.exists


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_a_batch_that_is_refused_leaves_no_record_unsynced(record):
    """Nothing rolls back: the other records are written, and hold their files."""
    record.attach(b"first")
    others = [record.other(f"r{number}") for number in range(3)]
    forged = {**record.data["attachment"], "size": 1}
    requests = [{"method": "PUT", "path": record.path, "body": {"data": {"attachment": forged}}}]
    requests += [
        {
            "method": "PUT",
            "path": other.path,
            "body": {"data": {"attachment": record.data["attachment"]}},
        }
        for other in others
    ]

    record.app.post_json("/v1/batch", {"requests": requests}, status=400)

    record.app.delete(record.path)
    assert [other.content for other in others] == [b"first"] * 3


def test_a_name_never_comes_back(make_record):
    record = make_record(attachment={"randomize": "false"})
    names = []
    for content in (b"1", b"2", b"3", b"4"):
        record.attach(content, "a.txt")
        names += record.files()
    record.detach()
    record.attach(b"5", "a.txt")
    names += record.files()

    assert len(set(names)) == 5


def test_a_resumable_upload_gets_no_name_twice_either(make_record):
    record = make_record(attachment={"randomize": "false"})
    names = []
    for _ in range(3):
        upload = begin(record, filename="a.txt")
        upload.patch(0, CONTENT)
        names += record.files()

    assert len(set(names)) == 3


def _in_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.leaves("a file that gc finds")
def test_a_whole_file_is_left_for_gc_while_the_index_is_missing(record, monkeypatch, caplog):
    upload = whole_but_not_attached(record, monkeypatch)
    monkeypatch.setattr(location_index, "_checked", {})
    monkeypatch.setattr(location_index, "is_valid", lambda connection: False)

    upload.delete()

    assert len(record.files()) == 1
    assert "left for gc" in caplog.text


@pytest.mark.leaves("a record that is held by no row")
def test_a_file_without_a_row_stays_if_a_record_shows_it(record, unheard, monkeypatch):
    whole_but_not_attached(record, monkeypatch)
    (name,) = record.files()
    shown = {"location": f"https://files.example.org/{name}", "size": 10, "hash": DIGEST}
    unheard(record.other(), shown)
    record.create()

    record.app.delete(record.path)

    assert record.files() == [name]


def test_a_name_that_is_remembered_is_not_given_again(make_record, monkeypatch):
    record = make_record(attachment={"randomize": "false"})
    record.attach(b"first", "a.txt")
    record.detach()
    monkeypatch.setattr(References, "is_used", lambda references, name: False)

    record.attach(b"second", "a.txt", status=409)

    assert record.files() == []
    assert record.data["attachment"] is None


def test_a_row_that_does_not_exist_is_forgotten_without_a_word(record):
    registry = record.app.registry
    files = registry.getUtility(IFileStorage)
    with transaction.manager:
        references = References(registry.storage, registry.attachment_settings, FileChanges(files))
        references.forget_gone("unknown")

    assert record.files() == []


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
@pytest.mark.leaves("a record with forged metadata: its restoration is what is tried")
def test_a_record_that_is_deleted_while_it_is_refused_does_not_come_back(record, monkeypatch):
    record.attach(CONTENT)
    forged = {**record.data["attachment"], "size": 1}
    monkeypatch.setattr(References, "record", lambda references, holder: None)

    body = {"data": {"attachment": forged}}
    record.app.patch_json(record.path, body, status=400)


def test_other_backends_cannot_be_asked():
    with pytest.raises(location_index.IndexMissing):
        location_index.records_ending_with(object(), ["a.txt"])


def test_an_empty_memory_has_no_records():
    assert location_index.records_ending_with(memory.Storage(), ["a.txt"]) == []


def whole_but_not_attached(record, monkeypatch):
    """An upload whose last request has failed: its file is stored, and no record shows it."""
    upload = begin(record)

    def unavailable(*args):
        raise BackendError(original=Exception("the database is down"))

    with monkeypatch.context() as patch:
        patch.setattr(RecordAttachment, "attach", unavailable)
        upload.patch(0, CONTENT, 503)
    return upload

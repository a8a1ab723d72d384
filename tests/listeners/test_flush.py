"""``POST /__flush__``: the files that have a row of ours go, and no other."""

from __future__ import annotations

import json
import logging
import types
from dataclasses import replace

import pytest
import transaction
from kinto.core.storage.exceptions import BackendError
from kinto.events import ServerFlushed
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.tus.store import UploadStore
from tests.support.tus import begin

PLUGINS = "kinto.plugins.default_bucket kinto.plugins.flush kinto_attachment"


@pytest.fixture
def record(make_record):
    """A record with a file, on a server that can be flushed."""
    record = make_record(**{"kinto.includes": PLUGINS})
    record.attach(b"content")
    return record


def flush(record, status=202):
    return record.app.post("/v1/__flush__", status=status)


def test_the_files_of_all_records_go(record):
    record.other().attach(b"other")

    flush(record)

    assert record.files() == []
    assert not record.exists


@pytest.mark.leaves("a file of others")
def test_files_of_others_stay(record):
    (record.folder / "theirs.txt").write_bytes(b"theirs")

    flush(record)

    assert record.files() == ["theirs.txt"]


def test_kept_files_go_as_well(make_record):
    record = make_record(attachment={"keep_old_files": "true"}, **{"kinto.includes": PLUGINS})
    record.attach(b"first")
    record.attach(b"second")
    assert len(record.files()) == 2

    flush(record)

    assert record.files() == []


def test_a_server_without_files_can_be_flushed(record):
    record.detach()

    flush(record)

    assert record.files() == []


def test_files_can_be_attached_after_a_flush(record):
    flush(record)
    for path in ("/v1/buckets/b", "/v1/buckets/b/collections/c"):
        record.app.put_json(path, {})

    record.attach(b"new", status=201)

    assert record.content == b"new"
    assert len(record.files()) == 1


def test_a_flush_in_a_batch_takes_the_files_as_well(record):
    requests = [
        {"method": "PUT", "path": "/v1/buckets/before"},
        {"method": "POST", "path": "/v1/__flush__"},
        {"method": "PUT", "path": "/v1/buckets/after"},
    ]

    answers = record.app.post_json("/v1/batch", {"requests": requests}).json["responses"]

    assert [answer["status"] for answer in answers] == [201, 202, 201]
    assert record.files() == []


def test_nothing_goes_when_another_method_is_refused(record):
    record.app.get("/v1/__flush__", status=405)

    assert record.content == b"content"


def test_nothing_goes_when_the_flush_fails(record, monkeypatch):
    def fail():
        raise BackendError(message="the storage is gone")

    monkeypatch.setattr(record.app.registry.storage, "flush", fail)

    flush(record, status=503)

    assert record.content == b"content"


def test_nothing_goes_when_others_tell_of_a_flush_of_their_own(record):
    request = types.SimpleNamespace(registry=record.app.registry)

    record.app.registry.notify(ServerFlushed(request))

    assert record.content == b"content"


@pytest.mark.leaves("a file that gc finds")
def test_a_file_that_cannot_be_deleted_is_logged_and_the_others_go(record, monkeypatch, caplog):
    stuck = record.files()[0]
    record.other().attach(b"other")
    storage = record.app.registry.getUtility(IFileStorage)
    delete = storage.delete

    def delete_others(name):
        if name == stuck:
            raise StorageUnavailable("cannot delete")
        return delete(name)

    monkeypatch.setattr(storage, "delete", delete_others)

    with caplog.at_level(logging.ERROR):
        flush(record)

    assert record.files() == [stuck]
    assert f"{stuck} could not be deleted" in caplog.text


def test_more_rows_than_kinto_lists_at_once(make_record):
    settings = {"kinto.includes": PLUGINS, "kinto.storage_max_fetch_size": "2"}
    record = make_record(**settings)
    for number in range(5):
        record.other(f"r{number}").attach(json.dumps(number).encode())

    flush(record)

    assert record.files() == []


def test_unfinished_uploads_go_as_well(record):
    begin(record).patch(0, b"half")

    flush(record)

    assert record.files() == []


def test_a_file_that_is_complete_but_not_attached_yet_goes(record):
    begin(record).patch(0, b"half")
    (record.folder / "complete.txt").write_bytes(b"complete")
    rows = UploadStore(record.app.registry.storage)
    [upload] = rows.below("*")
    rows.save(replace(upload, name="complete.txt"))
    transaction.commit()

    flush(record)

    assert record.files() == []

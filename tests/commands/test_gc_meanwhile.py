"""What happens on servers while ``kinto-attachment gc`` runs."""

from __future__ import annotations

import json

import pytest

from kinto_attachment.commands.selection import Selection
from kinto_attachment.storage.gcloud import GCloudStorage
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage
from tests.support.orphans import STRAY, grow_old
from tests.support.tus import begin

MIB = 1024 * 1024
everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])


@pytest.fixture
def before_files_are_listed(monkeypatch):
    """``before_files_are_listed(step)``: gc has read the database then."""

    def register(step):
        for storage in (LocalStorage, S3Storage, GCloudStorage):
            listed = storage.list

            def list_after(self, *args, listed=listed, **options):
                step()
                return listed(self, *args, **options)

            monkeypatch.setattr(storage, "list", list_after)

    return register


@pytest.fixture
def before_files_are_deleted(monkeypatch):
    """``before_files_are_deleted(step)``: gc has chosen them then."""

    def register(step):
        deletable = Selection.deletable
        calls = []

        def deletable_before(self):
            found = list(deletable(self))
            calls.append(found)
            # The first two calls look whether something, and not too much, would go.
            if len(calls) == 3:
                step()
            return iter(found)

        monkeypatch.setattr(Selection, "deletable", deletable_before)

    return register


def collect(command):
    return command("gc", "--delete", "--older-than=0s", "--json")


@everywhere
def test_an_upload_that_ends_keeps_its_file(record, where, command, before_files_are_listed):
    record.attach(b"content")
    upload = begin(record.other(), 12 * MIB)
    upload.patch(0, bytes(6 * MIB))

    def end():
        upload.patch(6 * MIB, bytes(6 * MIB))
        if where == "local":
            grow_old(record)  # as if the upload had begun and rested long ago

    before_files_are_listed(end)

    result = collect(command)

    assert result.findings == []
    assert len(record.files()) == 2
    assert record.other().data["attachment"]["size"] == 12 * MIB


def test_an_upload_that_begins_and_ends_keeps_its_file(record, command, before_files_are_listed):
    record.attach(b"content")

    def attach():
        record.other().attach(b"other")
        grow_old(record)

    before_files_are_listed(attach)

    assert collect(command).findings == []
    assert record.other().content == b"other"


def test_an_upload_that_begins_keeps_its_part(record, command, before_files_are_listed):
    record.attach(b"content")
    begun = []

    def start():
        begun.append(begin(record.other(), 10))
        begun[0].patch(0, b"01234")
        grow_old(record)

    before_files_are_listed(start)

    assert collect(command).findings == []
    begun[0].patch(5, b"56789")
    assert record.other().content == b"0123456789"


def test_a_record_that_a_plugin_writes_keeps_its_file(
    record, command, execute, before_files_are_deleted
):
    """Without an event, of a file without a row."""
    record.attach(b"content")
    (record.folder / STRAY).write_bytes(b"stray")
    grow_old(record)
    attachment = {"location": f"http://elsewhere.example.org/{STRAY}"}
    before_files_are_deleted(
        lambda: execute(
            "INSERT INTO objects (id, parent_id, resource_name, data, deleted)"
            " VALUES ('behind', '/buckets/b/collections/c', 'record', %s, FALSE)",
            json.dumps({"attachment": attachment}),
        )
    )

    assert collect(command).findings == []
    assert len(record.files()) == 2


def test_a_record_that_is_written_back_keeps_its_file(
    record, command, execute, before_files_are_deleted
):
    """As a plugin rolls back a deletion, of a file that has not gone yet."""
    record.attach(b"content")
    record.other().attach(b"other")
    [(data,)] = execute("SELECT data FROM objects WHERE resource_name = 'record' AND id = 'r'")
    execute("DELETE FROM objects WHERE resource_name = 'record' AND id = 'r'")
    grow_old(record)
    before_files_are_deleted(
        lambda: execute(
            "INSERT INTO objects (id, parent_id, resource_name, data, deleted)"
            " VALUES ('r', '/buckets/b/collections/c', 'record', %s, FALSE)",
            json.dumps(data),
        )
    )

    assert collect(command).findings == []
    assert record.content == b"content"


@pytest.mark.parametrize("where", ["s3"])
def test_a_multipart_upload_that_begins_is_not_aborted(record, command, monkeypatch):
    record.attach(b"content")
    begun = []
    incomplete = S3Storage.incomplete

    def incomplete_after(self):
        # The first call looks whether something would go.
        begun.append(None)
        if len(begun) == 2:
            begun.append(begin(record.other(), 12 * MIB))
            begun[-1].patch(0, bytes(6 * MIB))
        return incomplete(self)

    monkeypatch.setattr(S3Storage, "incomplete", incomplete_after)

    result = collect(command)

    assert result.counts["uploads aborted"] == 0
    begun[-1].patch(6 * MIB, bytes(6 * MIB))
    assert record.other().data["attachment"]["size"] == 12 * MIB

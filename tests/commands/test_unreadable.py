"""Folders and files that may not be read are told and passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from tests.support.orphans import STRAY, grow_old, names


@pytest.fixture
def close(monkeypatch):
    """``close(path)``: the folder may be neither read nor entered, by root either."""
    closed = []

    def guarded(call):
        def guard(path, *args, **options):
            # A path may be a descriptor.
            if any(str(path).startswith(str(folder)) for folder in closed):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *args, **options)

        return guard

    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(Path, "lstat", guarded(Path.lstat))
    return closed.append


@pytest.fixture
def attached(record, close):
    """A record with a file, an orphan, and a folder with another orphan that may not be read."""
    record.attach(b"content")
    folder = record.folder / "lost+found"
    folder.mkdir()
    for path in (record.folder / STRAY, folder / STRAY):
        path.write_bytes(b"stray")
    grow_old(record)
    close(folder)
    return record


def test_gc_passes_over_a_folder_that_may_not_be_read(attached, command):
    result = command("gc", "--delete", "--json")

    assert result.status == 0
    [told, deleted] = result.findings
    assert (told["problem"], told["name"]) == ("unreadable folder", "lost+found")
    assert "Permission denied" in told["error"]
    assert deleted["name"] == STRAY
    assert result.counts["folders that may not be read"] == 1


def test_check_passes_over_a_folder_that_may_not_be_read(attached, command):
    (attached.folder / STRAY).unlink()

    result = command("check", "--hash", "--json")

    assert result.status == 0
    assert [finding["problem"] for finding in result.findings] == ["unreadable folder"]


@pytest.fixture
def hidden(make_record):
    """Two records with a file each, of which one is in a folder of its own."""
    record = make_record(attachment={"folder": "{collection_id}"})
    record.attach(b"content")
    record.app.put_json("/v1/buckets/b/collections/d", {})
    record.other(collection_id="d").attach(b"other")
    return record


def test_a_record_whose_file_may_not_be_looked_at_is_told(hidden, command, close):
    close(hidden.folder / "d")

    result = command("check", "--json")

    assert result.status == 1
    assert [finding["problem"] for finding in result.findings] == [
        "unreadable folder",
        "unreadable",
    ]
    assert result.findings[1]["record"] == hidden.other(collection_id="d").uri


def unreadable(name):
    error = StorageUnavailable(f"cannot read {name}: Permission denied")
    error.__cause__ = PermissionError()
    return error


def test_a_file_that_may_not_be_read_is_told_and_the_others_are_compared(
    hidden, command, monkeypatch
):
    [one, other] = hidden.files()
    (hidden.folder / other).write_bytes(b"0ther")
    read = LocalStorage.read

    def read_others(self, name, *args):
        if name == one:
            raise unreadable(name)
        return read(self, name, *args)

    monkeypatch.setattr(LocalStorage, "read", read_others)

    result = command("check", "--hash", "--json")

    assert result.status == 1
    assert [finding["problem"] for finding in result.findings] == ["unreadable", "hash"]
    assert names(result) == [one, other]


def test_a_storage_that_fails_ends_the_check(hidden, command, monkeypatch):
    def fail(self, name, *args):
        raise StorageUnavailable(f"cannot read {name}: the server does not answer")

    monkeypatch.setattr(LocalStorage, "read", fail)

    result = command("check", "--hash")

    assert result.status == 2
    assert "does not answer" in result.errors

"""What the storage can never take is refused, not put off."""

from __future__ import annotations

import errno
import os

import pytest

from kinto_attachment.storage import FileStorage, FileTooLargeForStorage, StagedFile
from tests.support.tus import TUS, begin, creation

TIB = 2**40


@pytest.mark.both_storages
def test_a_resumable_upload_of_6_tib_is_refused_when_it_is_created(make_record, where, seaweedfs):
    record = make_record()

    if where == "local":
        begin(record, 6 * TIB).delete()
        return
    answer = creation(record, status=413, Upload_Length=str(6 * TIB))

    assert answer.json["errno"] == 113
    assert "larger than 671088640000 bytes" in answer.json["message"]
    assert seaweedfs.uploads() == []
    assert record.files() == []
    headers = record.app.options(record.endpoint, headers=TUS).headers
    assert headers["Tus-Max-Size"] == "671088640000"


def test_the_smaller_of_two_limits_holds(make_record, monkeypatch):
    monkeypatch.setattr(FileStorage, "max_size", 10)
    record = make_record(attachment={"max_size_bytes": "1000"})

    assert "larger than 10 bytes" in record.attach(b"x" * 11, status=413).json["message"]
    assert record.app.options(record.endpoint, headers=TUS).headers["Tus-Max-Size"] == "10"
    assert record.files() == []


def test_a_storage_that_finds_out_on_the_way(record, monkeypatch):
    def write(self, chunk):
        raise FileTooLargeForStorage("made up")

    monkeypatch.setattr(StagedFile, "write", write)

    answer = record.attach(b"content", status=413)

    assert answer.json["errno"] == 113
    assert answer.json["message"] == "The attachment is larger than the file storage can hold."
    assert record.files() == []


def test_a_resumable_upload_ends_where_the_storage_can_take_no_more(record, monkeypatch):
    upload = begin(record, 10)
    upload.patch(0, b"01234")
    write = os.write

    def full(descriptor, content):
        if bytes(content) == b"56789":
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", full)

    assert upload.patch(5, b"56789", 413).json["errno"] == 113
    upload.head(404)
    assert record.files() == []

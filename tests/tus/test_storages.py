"""Resumable uploads of several parts, on the local disk and on S3."""

from __future__ import annotations

import random

import pytest

from tests.support.tus import OFFSET_TYPE, begin, checksum, creation, metadata

pytestmark = pytest.mark.both_storages

MIB = 1024 * 1024
CONTENT = random.Random(2).randbytes(12 * MIB + 7)  # noqa: S311
SIZE = len(CONTENT)
CHUNK = 3 * MIB + 1


def send(upload, start=0, end=SIZE):
    for offset in range(start, end, CHUNK):
        upload.patch(offset, CONTENT[offset : min(offset + CHUNK, end)])


@pytest.mark.parametrize("length", [SIZE, None])
def test_chunks_of_any_size(record, length):
    record.attach(b"first")
    upload = begin(record, length)

    send(upload)
    if length is None:
        upload.patch(len(CONTENT), Upload_Length=str(SIZE))

    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_all_at_once(record):
    creation(record, CONTENT, 201, OFFSET_TYPE, Upload_Length=str(SIZE))

    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_the_name_of_the_file_is_kept(make_record):
    record = make_record(attachment={"randomize": "false", "folder": "{bucket_id}"})
    send(begin(record, SIZE))
    send(begin(record.other(), SIZE))

    assert record.files() == ["b/file-1.txt", "b/file.txt"]


def test_a_chunk_with_a_wrong_checksum(record):
    upload = begin(record, SIZE)
    send(upload, 0, CHUNK)

    upload.patch(CHUNK, bytes(7 * MIB), 460, Upload_Checksum=checksum(b"other"))

    send(upload, CHUNK)
    assert record.content == CONTENT


@pytest.mark.parametrize("end", [CHUNK, 2 * CHUNK])
def test_nothing_is_left_of_an_upload_that_is_ended(record, end):
    record.create()
    upload = begin(record, SIZE)
    send(upload, 0, end)
    upload.delete()
    assert record.files() == []

    upload = begin(record, SIZE)
    send(upload, 0, end)
    record.app.delete(record.path)
    assert record.files() == []


def test_nothing_is_left_of_one_that_is_refused_in_the_end(record):
    sent = metadata(filename="a.txt", sha256="0" * 64)
    upload = begin(record, len(CONTENT), Upload_Metadata=sent)
    send(upload, 0, 3 * CHUNK)

    upload.patch(3 * CHUNK, CONTENT[3 * CHUNK :], 460)

    assert record.files() == []
    assert not record.exists

"""What a process knows of the bytes that it has received, and when it reads the file back instead.

The hash is never wrong: each test looks at it.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest
import transaction
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.attachments.site import MARKER
from kinto_attachment.storage import ResumableFile, StorageUnavailable
from kinto_attachment.tus import received
from kinto_attachment.tus.received import ReceivedUploads
from kinto_attachment.tus.store import UploadStore
from tests.support.tus import OFFSET_TYPE, Upload, begin, checksum, creation
from tests.tus.test_meanwhile import Body

CONTENT = b"0123456789"


@pytest.fixture
def reads(record, monkeypatch):
    """The names of the files that are read back."""
    files = record.app.registry.getUtility(IFileStorage)
    names, read = [], files.read

    def remember(name, *args):
        if name != MARKER:
            names.append(name)
        return read(name, *args)

    monkeypatch.setattr(files, "read", remember)
    return names


class Workers:
    """Several processes: each has received what it has received."""

    def __init__(self, record) -> None:
        self._registry = record.app.registry
        self._first = self._registry.attachment_received

    def another(self) -> None:
        """The next requests come to another one."""
        self._registry.attachment_received = ReceivedUploads()

    def first(self) -> None:
        """The next requests come to the first one again."""
        self._registry.attachment_received = self._first


@pytest.fixture
def workers(record):
    return Workers(record)


def the_row(record):
    with transaction.manager:
        (row,) = UploadStore(record.app.registry.storage).below(record.uri)
    return row


def write_row(record, row):
    with transaction.manager:
        UploadStore(record.app.registry.storage).save(row)


def assert_attached(record, content=CONTENT):
    assert record.content == content
    assert record.data["attachment"]["hash"] == hashlib.sha256(content).hexdigest()


def in_one_request(record):
    begin(record).patch(0, CONTENT)


def with_its_creation(record):
    creation(record, CONTENT, 201, OFFSET_TYPE, Upload_Length="10")


def begun_with_its_creation(record):
    url = creation(record, b"0123", 201, OFFSET_TYPE, Upload_Length="10").headers["Location"]
    Upload(record, url).patch(4, b"456789")


def in_several_requests(record):
    upload = begin(record)
    for offset in range(0, 10, 2):
        upload.patch(offset, CONTENT[offset : offset + 2])


def without_a_length_at_first(record):
    upload = begin(record, None)
    upload.patch(0, b"01234")
    upload.patch(5, b"56789", Upload_Length="10")


def after_the_client_was_lost(record):
    upload = begin(record)
    upload.stream(0, Body(b"01234"), 400, CONTENT_LENGTH="10")
    upload.patch(5, b"56789")


def after_a_request_that_was_refused(record):
    upload = begin(record)
    upload.patch(0, b"01234")
    upload.patch(5, b"xxx", 460, Upload_Checksum=checksum(b"567"))
    upload.patch(5, b"56789")


def after_a_request_that_came_twice(record):
    upload = begin(record)
    upload.patch(0, b"01234")
    upload.patch(0, b"xxxxx", 409)
    upload.patch(5, b"56789")


def after_the_storage_failed(record):
    upload = begin(record)
    upload.patch(0, b"01234")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableFile, "checkpoint", down)
        upload.patch(5, b"xxxxx", 503)
    upload.patch(5, b"56789")


def with_its_last_byte_twice(record):
    upload = begin(record)
    files = record.app.registry.getUtility(IFileStorage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "stat", down)
        upload.patch(0, CONTENT, 503)
    # The file is whole, but the last byte was not acknowledged: another one changes nothing.
    upload.patch(9, b"x")


def down(*args):
    raise StorageUnavailable("it is down")


@pytest.mark.sampled
@pytest.mark.parametrize(
    "send",
    [
        in_one_request,
        with_its_creation,
        begun_with_its_creation,
        in_several_requests,
        without_a_length_at_first,
        after_the_client_was_lost,
        after_a_request_that_was_refused,
        after_a_request_that_came_twice,
        after_the_storage_failed,
        with_its_last_byte_twice,
    ],
)
def test_a_file_that_one_process_has_received_is_not_read_back(record, reads, send):
    send(record)

    assert_attached(record)
    assert reads == []


def test_a_file_of_two_processes_is_read_back(record, reads, workers):
    upload = begin(record)
    upload.patch(0, b"012")
    workers.another()
    upload.patch(3, b"345")
    workers.first()
    upload.patch(6, b"6789")

    assert_attached(record)
    assert len(reads) == 1


def test_a_file_whose_offset_another_process_has_reached_again_is_read_back(
    record, reads, workers
):
    """The database has lost what this process has written: another one has gone on from there,
    with other bytes."""
    upload = begin(record)
    upload.patch(0, b"01234")
    before = the_row(record)
    upload.patch(5, b"xxx")
    write_row(record, before)
    workers.another()
    upload.patch(5, b"567")
    workers.first()
    upload.patch(8, b"89")

    assert_attached(record)
    assert len(reads) == 1


@pytest.mark.parametrize("offset", [0, 5])
def test_a_file_is_read_back_if_a_lease_has_ended_by_itself(record, reads, offset):
    """Whoever had it may still write."""
    upload = begin(record)
    if offset:
        upload.patch(0, b"01234")
    write_row(record, replace(the_row(record), owner="another", leased_until=1))
    upload.patch(offset, CONTENT[offset:])

    assert_attached(record)
    assert len(reads) == 1


def test_a_file_is_read_back_if_a_lease_had_ended_before_the_first_byte(record, reads):
    """Whoever had it may still write, also if another request has released it since."""
    upload = begin(record)
    late = record.app.registry.attachment_files.resume(the_row(record).state)
    write_row(record, replace(the_row(record), owner="another", leased_until=1))
    upload.stream(0, Body(), 400, CONTENT_LENGTH="5")
    upload.patch(0, b"01234")
    late.write(b"xxxxx")
    late.close()
    upload.patch(5, b"56789")

    assert_attached(record, record.content)
    assert len(reads) == 1


def test_of_many_uploads_the_last_ones_are_known(record, reads, workers, monkeypatch):
    workers.another()  # the tests before have left some
    monkeypatch.setattr(received, "_MAX_KEPT", 1)
    first, second = begin(record), begin(record)
    first.patch(0, b"01234")
    second.patch(0, b"01234")
    second.patch(5, b"56789")
    assert_attached(record)
    assert reads == []
    first.patch(5, b"56789")
    assert len(reads) == 1


def test_uploads_without_a_byte_leave_room_for_others(record, reads, workers, monkeypatch):
    """Most of them go on in another process, or never do."""
    workers.another()  # the tests before have left some
    monkeypatch.setattr(received, "_MAX_KEPT", 1)
    upload = begin(record)
    upload.patch(0, b"01234")
    begin(record)
    upload.patch(5, b"56789")
    assert_attached(record)
    assert reads == []


def test_nothing_is_known_of_an_upload_that_was_terminated(record, workers):
    workers.another()
    upload = begin(record)
    upload.patch(0, b"01234")
    assert upload.id in record.app.registry.attachment_received._kept
    upload.delete()
    assert record.app.registry.attachment_received._kept == {}


def test_an_upload_of_two_threads_has_the_bytes_of_one(record, reads):
    upload = begin(record)
    upload.stream(
        0,
        Body(b"01234", lambda: upload.patch(0, b"xxxxx", 423), b"56789"),
        204,
        CONTENT_LENGTH="10",
    )

    assert_attached(record)
    assert reads == []


def test_uploads_of_several_threads_are_kept_apart(record):
    uploads = [begin(record.other(f"r{number}")) for number in range(4)]

    def send(number: int) -> None:
        for position in range(10):
            uploads[number].patch(position, b"%d" % number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for number in range(4):
        assert_attached(record.other(f"r{number}"), b"%d" % number * 10)


def test_a_finished_file_of_another_size_is_refused(record, monkeypatch):
    upload = begin(record)
    files = record.app.registry.getUtility(IFileStorage)
    stat = files.stat
    monkeypatch.setattr(files, "stat", lambda name: replace(stat(name), size=9))
    upload.patch(0, CONTENT, 460)
    assert not record.exists
    assert record.files() == []


def test_a_file_that_is_gone_when_it_is_read_back(record, workers, monkeypatch):
    upload = begin(record)
    upload.patch(0, b"01234")
    workers.another()
    files = record.app.registry.attachment_files

    def gone(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(files, "read", gone)
    upload.patch(5, b"56789", 410)
    assert not record.exists
    assert record.files() == []


def test_an_upload_that_is_terminated_while_its_file_is_finished(record, monkeypatch):
    upload = begin(record)
    finish, answers = ResumableFile.finish, []

    def finish_and_terminate(file, *args):
        name = finish(file, *args)
        thread = threading.Thread(target=lambda: answers.append(upload.delete()))
        thread.start()
        thread.join(timeout=20)
        return name

    monkeypatch.setattr(ResumableFile, "finish", finish_and_terminate)
    upload.patch(0, CONTENT, 404)
    assert len(answers) == 1
    assert record.files() == []

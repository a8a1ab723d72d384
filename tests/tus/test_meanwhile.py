"""What others do while an upload is under way, and what happens to it then."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import transaction
from kinto.core.storage.exceptions import BackendError
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.database.objects import is_transactional
from kinto_attachment.tus import lease as leases
from kinto_attachment.tus import store as unfinished
from kinto_attachment.tus.store import UploadStore
from kinto_attachment.tus.uploads import ResumableUploads
from tests.support.tus import OFFSET_TYPE, begin, checksum, creation

CONTENT = b"0123456789"
COLLECTION = "/v1/buckets/b/collections/c"


class Body:
    """A body of some pieces: bytes, and what happens before the next ones, in another thread."""

    def __init__(self, *pieces) -> None:
        self._pieces = list(pieces)

    def read(self, size: int) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                return piece
            if isinstance(piece, Exception):
                raise piece
            thread = threading.Thread(target=piece)
            thread.start()
            thread.join(timeout=20)
            assert not thread.is_alive(), "the other request waits for the upload"
        return b""


@pytest.fixture
def upload(record):
    return begin(record)


@pytest.fixture
def short_leases(monkeypatch):
    """Leases that end at once."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0)
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0)


def unavailable(*args):
    raise BackendError(original=Exception("the database is down"))


def rows(record):
    with transaction.manager:
        return list(UploadStore(record.app.registry.storage).below(record.uri))


def test_another_client_has_to_wait(record, upload):
    answers = []

    def other():
        answers.append(upload.patch(0, b"01234", 423))
        assert upload.offset == 0

    upload.stream(0, Body(b"01234", other, b"56789"), 204, CONTENT_LENGTH="10")

    assert 1 <= int(answers[0].headers["Retry-After"]) <= 1 + leases.LEASE_SECONDS
    assert record.content == CONTENT


def test_another_client_goes_on_where_one_rests(record, upload, short_leases):
    upload.stream(
        0,
        Body(b"01234", lambda: upload.patch(0, CONTENT), b"xxxxx"),
        423,
        CONTENT_LENGTH="10",
    )

    assert upload.offset == 10
    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_who_has_lost_the_lease_before_the_first_byte_leaves_the_file_alone(
    record, upload, monkeypatch
):
    """Room is looked for first, which may take longer than the lease lasts."""
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0)
    late, find_room, answers = [], ResumableUploads._quota, []

    def find_room_slowly(*arguments):
        if not late:
            late.append(True)
            (row,) = rows(record)
            with transaction.manager:
                uploads = UploadStore(record.app.registry.storage)
                uploads.save(replace(row, leased_until=0))
            other.start()
            assert has_written.wait(20)
        return find_room(*arguments)

    def wait():
        has_written.set()
        assert is_over.wait(20)

    def send():
        body = Body(b"01234", wait, b"56789")
        answers.append(upload.stream(0, body, 204, CONTENT_LENGTH="10"))

    has_written, is_over = threading.Event(), threading.Event()
    other = threading.Thread(target=send)
    monkeypatch.setattr(ResumableUploads, "_quota", find_room_slowly)
    try:
        upload.patch(0, b"xxxxx", 423)
    finally:
        is_over.set()
        other.join(timeout=20)

    assert answers
    assert record.content == CONTENT


def test_who_has_lost_the_lease_saves_nothing(record, upload, monkeypatch):
    def other():
        monkeypatch.setattr(leases, "LEASE_SECONDS", 0)
        (row,) = rows(record)
        with transaction.manager:
            uploads = UploadStore(record.app.registry.storage)
            uploads.save(replace(row, owner="another", leased_until=0))

    with_checksum = {"HTTP_UPLOAD_CHECKSUM": checksum(b"012345")}
    upload.stream(0, Body(b"01234", other, b"5"), 423, CONTENT_LENGTH="6", **with_checksum)

    assert upload.offset == 0
    upload.patch(0, CONTENT)
    assert record.content == CONTENT


def test_an_upload_is_not_set_back_when_the_answer_to_a_release_is_lost(
    record, upload, monkeypatch
):
    """Another request may have gone on with it."""
    lease, release, give_up = leases.Lease, leases.Lease.release, leases.Lease.give_up

    def release_and_lose(lease, **changes):
        own_transaction = lease._own_transaction

        @contextmanager
        def losing():
            with own_transaction():
                yield
            lease._own_transaction = own_transaction
            unavailable()

        lease._own_transaction = losing
        release(lease, **changes)

    def give_up_late(lease):
        patch.undo()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(upload.patch, 5, b"56789").result()
        give_up(lease)

    with monkeypatch.context() as patch:
        patch.setattr(lease, "release", release_and_lose)
        patch.setattr(lease, "give_up", give_up_late)
        upload.patch(0, b"01234", 503)

    assert upload.offset == 10
    assert record.content == CONTENT


def test_a_client_that_vanishes(record, upload):
    upload.stream(0, Body(b"01234"), 400, CONTENT_LENGTH="10")

    assert upload.offset == 5
    upload.patch(5, b"56789")
    assert record.content == CONTENT


def test_a_connection_that_is_reset(record, upload):
    response = upload.stream(0, Body(b"01234", OSError("reset")), 400, CONTENT_LENGTH="10")

    assert response.json["message"] == "body: the connection was lost."
    assert upload.offset == 5


def test_a_client_that_vanishes_before_the_checksum_is_known(upload):
    environ = {"CONTENT_LENGTH": "10", "HTTP_UPLOAD_CHECKSUM": checksum(CONTENT)}

    upload.stream(0, Body(b"01234"), 400, **environ)

    assert upload.offset == 0


def test_a_client_that_vanishes_while_it_creates(record):
    creation(record, CONTENT, 400, OFFSET_TYPE, Upload_Length="20", Content_Length="20")

    assert record.files() == []


def test_what_has_arrived_is_saved_from_time_to_time(upload, monkeypatch):
    monkeypatch.setattr("kinto_attachment.tus.receive._SAVE_BYTES", 4)
    seen = []

    def look():
        seen.append(upload.offset)

    upload.stream(0, Body(b"01", look, b"23", look, b"456789"), 204, CONTENT_LENGTH="10")

    assert seen == [0, 4]


def test_what_has_arrived_late_is_saved_at_once(record, upload, short_leases, monkeypatch):
    monkeypatch.setattr("kinto_attachment.tus.receive._SAVE_SECONDS", 0)
    seen = []

    upload.stream(
        0, Body(b"01", lambda: seen.append(upload.offset), b"23456789"), 204, CONTENT_LENGTH="10"
    )

    assert seen == [2]
    assert record.content == CONTENT


def test_an_upload_that_is_ended_meanwhile(record, upload):
    upload.stream(0, Body(b"01234", upload.delete, b"56789"), 404, CONTENT_LENGTH="10")

    assert record.files() == []
    assert not record.exists


@pytest.mark.parametrize("path", ["records/r", "records", ""])
def test_what_is_deleted_takes_its_uploads_along(record, path):
    record.create()
    upload = begin(record)
    upload.patch(0, b"01234")

    record.app.delete(f"{COLLECTION}/{path}".rstrip("/"))

    record.app.put_json(COLLECTION, {})
    upload.head(404)
    assert record.files() == []


def test_the_bucket_is_deleted(record, upload):
    record.app.delete("/v1/buckets/b")

    assert record.files() == []
    assert rows(record) == []


def test_records_that_are_deleted_in_a_batch(record, upload):
    record.create()
    other = record.other()
    other.create()
    begin(other)
    requests = [{"method": "DELETE", "path": item.path} for item in (record, other)]

    record.app.post_json("/v1/batch", {"requests": requests})

    upload.head(404)
    assert record.files() == []


def test_other_records_keep_their_uploads(record, upload):
    for name in ("other", "r-2"):
        record.other(name).create()

    record.app.delete(record.other().path)
    record.app.delete(record.other("r-2").path)
    record.app.put_json("/v1/buckets/b/collections/c2", {})
    record.app.delete("/v1/buckets/b/collections/c2")

    upload.patch(0, CONTENT)
    assert record.content == CONTENT


def test_records_that_are_deleted_together_leave_others_their_uploads(record, upload):
    for name in ("other", "r-2"):
        record.other(name).create()

    record.app.delete("/v1/buckets/b/collections/c/records?in_id=other,r-2")

    upload.patch(0, CONTENT)
    assert record.content == CONTENT


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_collection_whose_id_is_a_pattern_leaves_others_their_uploads(record):
    """Where Kinto looks for what is below a collection, ``_`` is any character."""
    for name in ("c_", "cx"):
        record.app.put_json(f"/v1/buckets/b/collections/{name}", {})
    other = record.other("r", "cx")
    upload = begin(other)

    record.app.delete("/v1/buckets/b/collections/c_")

    upload.patch(0, CONTENT)
    assert other.content == CONTENT


def test_a_delete_that_is_refused_keeps_them(make_record):
    record = make_record()
    record.create()
    upload = begin(record)

    record.app.delete(record.path, headers={"If-Match": '"1"'}, status=412)

    upload.patch(0, CONTENT)
    assert record.content == CONTENT


def test_a_record_that_is_deleted_while_bytes_come_in(record):
    record.create()
    upload = begin(record)

    upload.stream(
        0,
        Body(b"01234", lambda: record.app.delete(record.path), b"56789"),
        404,
        CONTENT_LENGTH="10",
    )

    assert record.files() == []
    assert not record.exists


def test_a_flush(make_record):
    record = make_record(**{"kinto.includes": "kinto.plugins.flush kinto_attachment"})
    begin(record).patch(0, b"01234")
    begin(record).patch(0, CONTENT)

    record.app.post("/v1/__flush__")

    assert record.files() == []


def test_a_record_that_changes_meanwhile(record):
    record.create(title="old")
    upload = begin(record)
    record.app.patch_json(record.path, {"data": {"title": "new"}})

    upload.patch(0, CONTENT)

    assert record.data["title"] == "new"


def check_that_it_is_over(upload, record, status):
    response = upload.patch(5, b"56789", status)

    assert response.headers["Tus-Resumable"] == "1.0.0"
    upload.head(404)
    assert rows(record) == []


def test_a_version_that_is_outdated_in_the_end(record):
    record.attach(b"first")
    upload = begin(record, If_Match=record.etag)
    upload.patch(0, b"01234")
    record.attach(b"quick")

    check_that_it_is_over(upload, record, 412)

    assert record.content == b"quick"
    assert len(record.files()) == 1


def test_a_record_created_meanwhile_where_none_should_be(record):
    upload = begin(record, If_None_Match="*")
    upload.patch(0, b"01234")
    record.attach(b"quick")

    check_that_it_is_over(upload, record, 412)

    assert record.content == b"quick"


def test_a_schema_that_is_set_meanwhile(record, upload):
    upload.patch(0, b"01234")
    schema = {"type": "object", "required": ["title"]}
    record.app.patch_json(COLLECTION, {"data": {"schema": schema}})

    check_that_it_is_over(upload, record, 400)

    assert not record.exists
    assert record.files() == []


def test_a_schema_that_is_set_while_all_is_sent_at_once(record):
    schema = {"type": "object", "properties": {"attachment": {"required": ["owner"]}}}
    record.app.patch_json(COLLECTION, {"data": {"schema": schema}})

    creation(record, CONTENT, 400, OFFSET_TYPE, Upload_Length="10")

    assert record.files() == []


def test_settings_that_change_meanwhile(make_record, make_app):
    record = make_record()
    upload = begin(record)
    upload.patch(0, b"01234")

    for attachment in ({"extensions": "images"}, {"max_size_bytes": "9"}):
        stricter = make_app(attachment=attachment).registry.attachment_settings
        before = record.app.registry.attachment_settings
        record.app.registry.attachment_settings = stricter
        try:
            status = 400 if "extensions" in attachment else 413
            check_that_it_is_over(upload, record, status)
        finally:
            record.app.registry.attachment_settings = before
        upload = begin(record)
        upload.patch(0, b"01234")

    assert not record.exists


def test_a_permission_that_is_taken_away(record):
    record.create()
    bob = record.as_user("bob")
    record.app.patch_json(record.path, {"permissions": {"write": [bob.app.userid]}})
    upload = begin(bob)
    upload.patch(0, b"01234")
    record.app.patch_json(record.path, {"permissions": {"write": []}})

    upload.patch(5, b"56789", 403)
    upload.head(403)

    # It may be given back.
    record.app.patch_json(record.path, {"permissions": {"write": [bob.app.userid]}})
    upload.patch(5, b"56789")
    assert record.content == CONTENT


def test_a_permission_that_is_taken_away_while_bytes_come_in(record):
    record.create()
    bob = record.as_user("bob")
    grant = {"permissions": {"write": [bob.app.userid]}}
    record.app.patch_json(record.path, grant)
    upload = begin(bob)
    refuse = {"permissions": {"write": []}}

    upload.stream(
        0,
        Body(b"01234", lambda: record.app.patch_json(record.path, refuse), b"56789"),
        403,
        CONTENT_LENGTH="10",
    )

    assert "attachment" not in record.data
    record.app.patch_json(record.path, grant)
    upload.patch(9, b"9")
    assert record.content == CONTENT


def test_a_listener_that_refuses(make_record):
    record = make_record(**{"kinto.includes": "kinto_attachment tests.plugins.refusing_records"})
    upload = begin(record)

    upload.patch(0, CONTENT, 400)

    if is_transactional(record.app.registry.storage):
        assert not record.exists
        assert record.files() == []
        upload.head(404)
    else:
        assert record.content == CONTENT


def test_an_upload_expires(make_record, monkeypatch):
    record = make_record()
    upload = begin(record)
    upload.patch(0, b"01234")
    later = unfinished.msec_time() + 25 * 3600 * 1000
    monkeypatch.setattr(unfinished, "msec_time", lambda: later)

    upload.head(410)
    upload.patch(5, b"5", 410)

    # The next one to the same record removes it.
    begin(record.other())
    assert len(record.files()) == 2
    begin(record)
    assert len(record.files()) == 2


def test_the_last_byte_counts(record, upload, monkeypatch):
    later = unfinished.msec_time() + 23 * 3600 * 1000
    monkeypatch.setattr(unfinished, "msec_time", lambda: later)
    monkeypatch.setattr("kinto_attachment.tus.uploads.msec_time", lambda: later)
    upload.patch(0, b"01234")
    monkeypatch.setattr(unfinished, "msec_time", lambda: later + 23 * 3600 * 1000)

    upload.patch(5, b"56789")

    assert record.content == CONTENT


def test_an_upload_that_has_expired_can_be_ended(record, upload, monkeypatch):
    later = unfinished.msec_time() + 25 * 3600 * 1000
    monkeypatch.setattr(unfinished, "msec_time", lambda: later)

    upload.delete()

    assert record.files() == []


def test_what_gc_should_know(make_record, monkeypatch):
    record = make_record()
    uploads = UploadStore(record.app.registry.storage)
    files = record.app.registry.getUtility(IFileStorage)
    begin(record).patch(0, b"01234")
    begin(record).patch(0, CONTENT)
    (unfinished_one,) = (row for row in rows(record) if not row.done)

    assert unfinished_one.needs(files) & set(record.files())
    assert [row.needs(files) for row in rows(record) if row.done] == [frozenset()]
    assert list(uploads.expired()) == []
    later = unfinished.msec_time() + 25 * 3600 * 1000
    monkeypatch.setattr(unfinished, "msec_time", lambda: later)
    assert len(list(uploads.expired())) == 2


def test_a_process_that_is_killed_after_the_last_byte(record, upload, monkeypatch):
    """The file is there, and nobody has been told."""

    class Killed(BaseException):
        pass

    def die(*args):
        raise Killed

    upload.patch(0, b"01234")
    with monkeypatch.context() as patch:
        patch.setattr("kinto_attachment.tus.uploads.RecordAttachment.attach", die)
        # A dead process gives nothing back.
        patch.setattr("kinto_attachment.tus.lease.Lease.give_up", lambda lease: None)
        with pytest.raises(Killed):
            upload.patch(5, b"56789")
    (row,) = rows(record)
    assert row.name in record.files()
    files = record.app.registry.getUtility(IFileStorage)
    assert row.name in row.needs(files)
    upload.patch(9, b"9", 423)

    monkeypatch.setattr(leases, "msec_time", lambda: row.leased_until)
    upload.patch(9, b"9")

    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_an_upload_is_ended_whose_file_is_whole(record, upload, monkeypatch):
    upload.patch(0, b"01234")
    with monkeypatch.context() as patch:
        patch.setattr("kinto_attachment.tus.uploads.RecordAttachment.attach", unavailable)
        upload.patch(5, b"56789", 503)
    assert upload.offset == 9
    assert len(record.files()) == 1

    upload.delete()

    assert record.files() == []


@pytest.mark.parametrize("path", ["", "/records/r"])
def test_a_whole_file_goes_with_what_is_deleted(record, monkeypatch, path):
    record.create()
    upload = begin(record)
    with monkeypatch.context() as patch:
        patch.setattr("kinto_attachment.tus.uploads.RecordAttachment.attach", unavailable)
        upload.patch(0, CONTENT, 503)

    record.app.delete(f"{COLLECTION}{path}")

    assert record.files() == []


def test_a_collection_with_a_similar_name_keeps_its_uploads(record):
    """To the database, an underscore may stand for any character."""
    for name in ("c_1", "cx1"):
        record.app.put_json(f"/v1/buckets/b/collections/{name}", {})
    upload = begin(record.other("r", "cx1"))
    begin(record.other("r", "c_1"))

    record.app.delete("/v1/buckets/b/collections/c_1")

    upload.patch(0, CONTENT)
    assert upload.record.content == CONTENT


@pytest.mark.leaves("a file that gc finds")
def test_an_upload_that_goes_between_two_looks(record, upload, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(UploadStore, "locked", lambda *args: None)
        upload.patch(0, CONTENT, 404)
        upload.delete(404)
        record.app.delete("/v1/buckets/b")

    assert not record.exists


def test_a_database_that_fails_and_goes_on_failing(upload, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("kinto_attachment.tus.uploads.RecordAttachment.attach", unavailable)
        patch.setattr("kinto_attachment.tus.lease.Lease.release", unavailable)
        upload.patch(0, CONTENT, 503)

    assert upload.offset == 9


def test_a_refusal_that_cannot_be_written_down(record, upload, monkeypatch, caplog):
    schema = {"type": "object", "required": ["title"]}
    record.app.patch_json(COLLECTION, {"data": {"schema": schema}})
    with monkeypatch.context() as patch:
        patch.setattr(UploadStore, "remove", unavailable)
        upload.patch(0, CONTENT, 400)

    assert "left for gc" in caplog.text
    assert not record.exists


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
@pytest.mark.leaves("a record that is held by no row", backend="memory")
def test_a_file_that_the_record_shows_stays_whatever_is_answered(make_record, monkeypatch):
    """Where nothing can roll back, a record that is written is written."""
    record = make_record()
    upload = begin(record)
    real = leases.check_owner

    def lost_in_the_end(rows, row):
        if row.name is not None and record.exists:
            rows.remove(row)
        real(rows, row)

    monkeypatch.setattr("kinto_attachment.tus.uploads.check_owner", lost_in_the_end)

    upload.patch(0, CONTENT, 404)

    assert record.content == CONTENT


def test_who_comes_too_late_ends_nothing(record, upload, monkeypatch):
    """Another request has the lease when this one is refused for good."""
    schema = {"type": "object", "required": ["title"]}
    record.app.patch_json(COLLECTION, {"data": {"schema": schema}})
    real = UploadStore.locked

    def of_another(rows, uri, upload_id):
        found = real(rows, uri, upload_id)
        return found if found.name is None else replace(found, owner="another")

    with monkeypatch.context() as patch:
        patch.setattr(UploadStore, "locked", of_another)
        upload.patch(0, CONTENT, 400 if is_transactional(record.app.registry.storage) else 423)

    assert upload.offset == 9
    assert len(record.files()) == 1


def test_a_whole_file_that_vanishes(record, upload, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("kinto_attachment.tus.uploads.RecordAttachment.attach", unavailable)
        upload.patch(0, CONTENT, 503)
    (name,) = record.files()
    (record.folder / name).unlink()

    upload.patch(9, b"9", 410)

    upload.head(404)
    assert not record.exists


def test_requests_without_transactions(make_record):
    record = make_record(**{"kinto.transaction_per_request": "false"})
    upload = begin(record)
    upload.patch(0, b"01234")
    upload.patch(4, b"x", 409)

    upload.patch(5, b"56789")

    assert record.content == CONTENT
    begin(record).delete()
    assert len(record.files()) == 1

"""How many bytes and files there may be, of all, in a bucket, in a collection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import transaction

from kinto_attachment.attachments import quotas
from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.attachments.quotas import COUNTS
from kinto_attachment.database.objects import is_transactional
from kinto_attachment.database.usage import count
from tests.support.batch import batch
from tests.support.forms import Unread, file_part, form
from tests.support.tus import OFFSET_TYPE, begin, creation

D = "/v1/buckets/b/collections/d"


@pytest.fixture
def make_limited(make_record):
    """``make_limited(quota_bytes=10)``: a record of a Kinto with these settings, and a second
    collection ``d``. After the test, counts are right."""
    records = []

    def make(**quotas):
        attachment = {name.replace("__", "."): str(value) for name, value in quotas.items()}
        record = make_record(attachment=attachment)
        record.app.put_json(f"{record.path.partition('/collections/')[0]}/collections/d", {})
        records.append(record)
        return record

    yield make
    for record in records:
        storage = record.app.registry.storage
        if is_transactional(storage):
            for row in counts_of(storage):
                assert (row["bytes"], row["files"]) == count(storage, FILES, row["uri"]), row


def counts_of(storage):
    return storage.list_all(resource_name=COUNTS, parent_id="__attachments__/*")


def is_refused(answer, limit, where="this server"):
    """The answer says which quota would be exceeded, in Kinto's words."""
    assert answer.status_code == 507
    assert {name: answer.json[name] for name in ("code", "errno", "error")} == {
        "code": 507,
        "errno": 121,
        "error": "Insufficient Storage",
    }
    assert answer.json["message"] == (
        f"The attachments of {where} would exceed the quota of {limit}: delete some first."
    )


@pytest.mark.parametrize("bucket", ["b", "default"])
def test_bytes_of_the_site(make_limited):
    record = make_limited(quota_bytes=10)
    record.attach(b"0123456")

    is_refused(record.other().attach(b"0123", status=507), "10 bytes")
    assert not record.other().exists
    assert len(record.files()) == 1
    record.other().attach(b"012")
    is_refused(record.other("third").attach(b"0", status=507), "10 bytes")
    record.other("empty").attach(b"")


def test_files_of_the_site(make_limited):
    record = make_limited(quota_files=2)
    record.attach()
    record.other("r", "d").attach()

    is_refused(record.other().attach(b"", status=507), "2 files")
    record.attach(b"replaced")
    record.other("r", "d").detach()
    record.other().attach()


def test_each_quota_limits_what_it_is_set_for(make_limited):
    record = make_limited(resources__b__quota_bytes=10, resources__b__c__quota_bytes=5)

    is_refused(record.attach(b"012345", status=507), "5 bytes", "/buckets/b/collections/c")
    record.attach(b"01234")
    record.other("r", "d").attach(b"0")
    is_refused(record.other("s", "d").attach(b"01234", status=507), "10 bytes", "/buckets/b")
    record.app.put_json("/v1/buckets/e", {})
    record.app.put_json("/v1/buckets/e/collections/c", {})
    type(record)(record.app, record.stored, "/buckets/e/collections/c/records/r").attach(b"0" * 99)


def test_a_replacement_may_take_what_it_frees(make_limited):
    record = make_limited(quota_bytes=10)
    record.attach(b"0123456789")

    record.attach(b"9876543210")
    is_refused(record.attach(b"0" * 11, status=507), "10 bytes")
    assert record.content == b"9876543210"
    assert len(record.files()) == 1


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_replacement_of_the_same_size_leaves_the_count_as_it_is(make_limited):
    record = make_limited(quota_bytes=10)
    record.attach(b"0123456789")
    (before,) = counts_of(record.app.registry.storage)

    record.attach(b"9876543210")

    assert counts_of(record.app.registry.storage) == [before]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_lowered_quota_lets_smaller_files_in(make_limited):
    make_limited().attach(b"0123456789")
    record = make_limited(quota_bytes=5, quota_files=1)

    record.attach(b"01234567")
    is_refused(record.attach(b"012345678", status=507), "5 bytes")
    record.detach()
    record.attach(b"01234")


@pytest.mark.parametrize("what", ["record", "records", "collection", "bucket", "attachment"])
def test_what_is_deleted_is_free(make_limited, what):
    record = make_limited(quota_bytes=10)
    record.attach(b"01234")
    record.other().attach(b"56789")

    paths = {
        "record": record.path,
        "records": record.path.removesuffix("/r"),
        "collection": record.path.removesuffix("/records/r"),
        "bucket": "/v1/buckets/b",
        "attachment": record.endpoint,
    }
    record.app.delete(paths[what])
    record.app.put_json("/v1/buckets/b", {})
    record.app.put_json("/v1/buckets/b/collections/c", {})
    free = 5 if what in ("record", "attachment") else 10

    is_refused(record.attach(b"0" * (free + 1), status=507), "10 bytes")
    record.attach(b"0" * free)


def test_a_file_of_two_records_counts_once_in_each_collection(make_limited):
    record = make_limited(quota_files=1, resources__b__d__quota_files=1)
    record.attach()
    copy = {"data": {"attachment": record.data["attachment"]}}

    record.app.put_json(record.other().path, copy)
    record.app.put_json(f"{D}/records/r", copy)
    record.app.put_json(f"{D}/records/s", copy)
    record.app.delete(f"{D}/records/r")
    is_refused(record.other("t", "d").attach(status=507), "1 files", "/buckets/b/collections/d")


def test_a_copy_is_refused_where_it_does_not_fit(make_limited):
    record = make_limited(resources__b__d__quota_bytes=5)
    record.attach(b"012345")
    copy = {"data": {"title": "copy", "attachment": record.data["attachment"]}}

    answer = record.app.put_json(f"{D}/records/r", copy, status=507)

    is_refused(answer, "5 bytes", "/buckets/b/collections/d")
    is_transaction = is_transactional(record.app.registry.storage)
    found = record.app.get(f"{D}/records/r", status=404 if is_transaction else 200).json
    assert "attachment" not in found.get("data", {})


def test_a_file_moves_in_a_batch(make_limited):
    record = make_limited(quota_files=1, resources__b__d__quota_bytes=9)
    record.attach()
    copy = {"data": {"attachment": record.data["attachment"]}}
    moves = (("PUT", f"{D}/records/r", copy), ("DELETE", record.path))

    assert batch(record.app, *moves) == [201, 200]
    back = (("DELETE", f"{D}/records/r"), ("PUT", record.path, copy))
    assert batch(record.app, *back) in ([200, 201], [200, 409])


def test_kept_files_do_not_count(make_limited):
    record = make_limited(quota_bytes=10, keep_old_files="true")
    record.attach(b"0123456789")

    record.attach(b"9876543210")
    assert len(record.files()) == 2
    # It counts again where it is attached again.
    is_refused(record.other().attach(b"0", status=507), "10 bytes")


def test_a_known_length_is_refused_before_the_body(make_limited):
    record = make_limited(quota_bytes=10)
    record.attach()
    body = form([file_part(b"0" * 200_000)])

    answer = record.stream(Unread(body), status=507, CONTENT_LENGTH=str(len(body)))

    is_refused(answer, "10 bytes")


def test_other_bodies_are_read_no_further_than_they_fit(make_limited):
    record = make_limited(quota_bytes=10)
    body = form([file_part(b"0" * 4_000_000)])
    chunked = {"wsgi.input_terminated": True}

    is_refused(record.stream(Unread(body, 1_200_000), status=507, **chunked), "10 bytes")
    assert record.files() == []


def test_a_resumable_upload_that_does_not_fit_is_not_created(make_limited):
    record = make_limited(quota_bytes=10)
    record.attach(b"0")

    is_refused(creation(record.other(), status=507, Upload_Length="10"), "10 bytes")
    is_refused(
        creation(
            record.other(),
            b"0" * 10,
            507,
            OFFSET_TYPE,
            Upload_Defer_Length="1",
        ),
        "10 bytes",
    )
    begin(record.other(), 9).patch(0, b"123456789")
    begin(record, 1).patch(0, b"2")


def test_a_resumable_upload_goes_on_once_there_is_room(make_limited):
    record = make_limited(quota_bytes=10)
    upload = begin(record, 10)
    upload.patch(0, b"01234")
    record.other().attach(b"0")

    is_refused(upload.patch(5, b"56789", status=507), "10 bytes")
    assert upload.offset == 5
    record.other().detach()
    upload.patch(5, b"56789")
    assert record.content == b"0123456789"


def test_a_deferred_length_is_checked_when_it_is_declared(make_limited):
    record = make_limited(quota_bytes=10)
    upload = begin(record, None)

    is_refused(upload.patch(0, b"0" * 11, status=507), "10 bytes")
    upload.patch(0, b"0" * 10)
    is_refused(upload.patch(10, b"0", status=507, Upload_Length="11"), "10 bytes")
    assert upload.offset == 10


def test_a_body_without_a_length_ends_where_the_quota_does(make_limited):
    record = make_limited(quota_bytes=1_000_000)
    upload = begin(record, None)
    upload.patch(0, b"0" * 500_000)
    body, chunked = Unread(b"0" * 4_000_000, 1_200_000), {"wsgi.input_terminated": True}

    is_refused(upload.stream(500_000, body, 507, **chunked), "1000000 bytes")
    assert upload.offset == 500_000


def test_the_end_of_a_resumable_upload_may_be_sent_again(make_limited, monkeypatch):
    record = make_limited(quota_bytes=10)
    upload = begin(record, 10)
    find_room = "kinto_attachment.tus.uploads.find_room"
    other = record.other()

    def attach_meanwhile(*args):
        monkeypatch.undo()
        other.attach(b"0")

    monkeypatch.setattr(find_room, attach_meanwhile)
    is_refused(upload.patch(0, b"0123456789", status=507), "10 bytes")
    assert upload.offset < 10
    other.detach()
    offset = upload.offset
    upload.patch(offset, b"0123456789"[offset:])
    assert record.content == b"0123456789"


@pytest.mark.parametrize("backend", ["postgresql"])
def test_of_two_uploads_that_fit_but_not_both_one_passes(make_limited, subscribe):
    record = make_limited(quota_bytes=10, resources__b__d__quota_bytes=100)
    other = record.other("r", "d")
    # Both have written their record before one of them counts.
    both = threading.Barrier(2, timeout=10)
    subscribe(record.app, lambda event: both.wait())

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(each.attach, b"012345", status="*") for each in (record, other)]
        statuses = sorted(answer.result().status_code for answer in answers)

    assert statuses == [201, 507]
    assert len(record.files()) == 1


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize("write", ["attach", "copy"])
@pytest.mark.parametrize(("minutes", "refused"), [(0, True), (2, False), (61, False)])
def test_what_a_server_without_the_quota_has_changed_is_counted_later(
    make_record, make_limited, kinto_database, write, minutes, refused
):
    record = make_limited(resources__b__d__quota_files=1)
    record.attach()
    copy = {"data": {"attachment": record.data["attachment"]}}
    record.other("r", "d").attach()
    make_record().other("r", "d").detach()
    kinto_database.execute(
        "UPDATE objects SET data = data || jsonb_build_object('counted', "
        "(data->>'counted')::BIGINT - %s) WHERE resource_name = 'attachments-usage'",
        minutes * 60_000,
    )

    if write == "attach":
        answer = record.other("s", "d").attach(status="*")
    else:
        answer = record.app.put_json(f"{D}/records/s", copy, status="*")

    assert answer.status_code == (507 if refused else 201)
    if refused:
        kinto_database.execute("DELETE FROM objects WHERE resource_name = 'attachments-usage'")


@pytest.mark.parametrize("backend", ["postgresql"])
def test_of_two_first_uploads_one_counts_what_is_there(make_record, make_limited, monkeypatch):
    make_record().attach()
    record = make_limited(quota_files=3)
    counted = []
    lock_count, count_all = quotas.lock_count, quotas.count

    def attach_meanwhile(*args):
        monkeypatch.setattr(quotas, "lock_count", lock_count)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(record.other().attach).result()
        lock_count(*args)

    monkeypatch.setattr(quotas, "lock_count", attach_meanwhile)
    monkeypatch.setattr(quotas, "count", lambda *args: counted.append(args) or count_all(*args))

    record.other("third").attach()

    assert len(counted) == 1
    is_refused(record.other("fourth").attach(status=507), "3 files")


@pytest.mark.parametrize("backend", ["postgresql"])
def test_without_a_quota_nothing_is_counted(make_limited):
    record = make_limited(resources__b__d__quota_files=1)

    record.attach()
    record.attach()
    record.app.delete(record.path)

    assert counts_of(record.app.registry.storage) == []


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_copy_that_no_event_tells_of_keeps_a_file_in_spite_of_the_quota(make_limited):
    record = make_limited(resources__b__d__quota_bytes=5)
    record.attach(b"0123456")
    record.app.registry.storage.create(
        "record", D.removeprefix("/v1"), {"id": "r", "attachment": record.data["attachment"]}
    )
    transaction.commit()

    record.app.delete(record.path)

    assert record.other("r", "d").content == b"0123456"
    is_refused(
        record.other("s", "d").attach(b"0", status=507), "5 bytes", "/buckets/b/collections/d"
    )


@pytest.mark.parametrize("backend", ["postgresql"])
def test_uploads_to_one_collection_do_not_wait_for_those_to_another(make_limited, kinto_database):
    record = make_limited(resources__b__c__quota_files=9, resources__b__d__quota_files=9)
    record.attach()
    other = record.other("r", "d")
    other.attach()
    kinto_database.execute("BEGIN")
    kinto_database.execute(
        "SELECT FROM objects WHERE resource_name = %s AND data->>'uri' LIKE %s FOR UPDATE",
        COUNTS,
        "%/c",
    )

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(other.attach, b"another size")
        try:
            assert answer.result(timeout=30).status_code == 200
        finally:
            kinto_database.execute("ROLLBACK")

"""Several writes at once, whose events Kinto merges: it loses their order, and keeps those of
what it has aborted."""

from __future__ import annotations

import pytest
from kinto.core.storage.exceptions import IntegrityError

from tests.support.batch import batch

pytestmark = pytest.mark.parametrize(("bucket", "where"), [("b", "s3"), ("default", "local")])

NULL = {"data": {"attachment": None}}


@pytest.fixture
def record(record):
    """A record with a file."""
    record.attach(b"content", data={"title": "first"})
    return record


@pytest.fixture
def other(record):
    """Another one."""
    other = record.other()
    other.attach(b"other")
    return other


@pytest.fixture
def collection(record):
    """The path of the records' collection."""
    return record.path.removesuffix("/records/r")


@pytest.fixture
def elsewhere(record, collection):
    """A record in another collection, which does not exist."""
    record.app.put_json(f"{collection.removesuffix('/c')}/d", {})
    return record.other("broken", "d")


@pytest.fixture
def break_storage(record, monkeypatch):
    """``break_storage(error)``: creating the record ``broken`` fails with it."""
    storage = record.app.registry.storage
    create = storage.create

    def break_storage(error):
        def create_or_fail(*args, **kwargs):
            if kwargs["obj"].get("id") == "broken":
                raise error
            return create(*args, **kwargs)

        monkeypatch.setattr(storage, "create", create_or_fail)

    return break_storage


def data(record):
    """The body of a PUT that writes the record as it is, also in another place."""
    ours = ("id", "last_modified")
    return {"data": {key: value for key, value in record.data.items() if key not in ours}}


def test_several_are_deleted(record, other):
    assert batch(record.app, ("DELETE", record.path), ("DELETE", other.path)) == [200, 200]

    assert record.files() == []


def test_several_are_deleted_and_one_is_there_again(record, other):
    """They hold the same file in the end, and one more had it."""
    copy = record.other("copy")
    copy.create(attachment=record.data["attachment"])

    batch(
        record.app,
        ("DELETE", record.path),
        ("DELETE", other.path),
        ("DELETE", copy.path),
        ("PUT", other.path, data(record)),
    )

    assert other.content == b"content"
    assert len(record.files()) == 1


def test_several_are_deleted_and_swap_their_files_as_they_come_back(record, other):
    first, second = data(record), data(other)

    batch(
        record.app,
        ("DELETE", record.path),
        ("DELETE", other.path),
        ("PUT", record.path, second),
        ("PUT", other.path, first),
    )

    assert record.content == b"other"
    assert other.content == b"content"


def test_several_lose_their_files_in_different_ways(record, other):
    third = record.other("third")
    third.attach(b"third")
    fourth = record.other("fourth")
    fourth.attach(b"fourth")

    statuses = batch(
        record.app,
        ("DELETE", record.endpoint),
        ("PUT", other.path, {"data": {"title": "second"}}),
        ("PATCH", third.path, NULL),
        ("DELETE", fourth.path),
    )

    assert statuses == [204, 200, 200, 200]
    assert record.files() == []


def test_an_event_mixes_changes_of_attachments_and_others(record, other):
    third, plain, copy = record.other("third"), record.other("plain"), record.other("copy")
    third.attach(b"third")
    plain.create(title="plain")
    copy.create(title="copy")

    batch(
        record.app,
        ("PATCH", plain.path, {"data": {"title": "changed"}}),
        ("PATCH", record.path, {"data": {"title": "changed"}}),
        ("PUT", record.other("new").path, {"data": {"title": "new"}}),
        ("PATCH", other.path, NULL),
        ("PUT", third.path, data(third)),
        ("PATCH", copy.path, {"data": {"attachment": record.data["attachment"]}}),
        ("PUT", record.other("another").path, data(third)),
    )

    assert record.content == copy.content == b"content"
    assert third.content == record.other("another").content == b"third"
    assert other.data["attachment"] is None
    assert len(record.files()) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_moves_to_another_record(record, order):
    moved = record.other("moved")
    requests = [("DELETE", record.path), ("PUT", moved.path, data(record))]

    batch(record.app, *requests[::order])

    assert moved.content == b"content"
    assert len(record.files()) == 1


def test_two_records_swap_their_files(record, other):
    swapped = data(other)["data"]["attachment"], data(record)["data"]["attachment"]

    batch(
        record.app,
        ("PATCH", record.path, {"data": {"attachment": swapped[0]}}),
        ("PATCH", other.path, {"data": {"attachment": swapped[1]}}),
    )

    assert record.content == b"other"
    assert other.content == b"content"


@pytest.mark.parametrize("gone", ["record", "collection"])
def test_what_kinto_aborts_and_goes_on_from(
    record, other, elsewhere, collection, break_storage, backend, gone
):
    break_storage(IntegrityError(message="somebody was faster"))
    new = elsewhere.other("new", "d")

    statuses = batch(
        record.app,
        ("DELETE", record.path if gone == "record" else collection),
        ("PUT", elsewhere.path, {"data": {}}),
        ("PUT", new.path, {"data": {"title": "new"}}),
    )

    assert statuses == [200, 409, 201]
    assert new.exists
    if gone == "record":
        # Where nothing rolls back, Kinto has deleted it.
        assert record.exists == (backend == "postgresql")
        assert other.content == b"other"
    else:
        # Kinto deletes the records of a collection when it tells of it, also if it is still there.
        assert record.files() == []


@pytest.mark.leaves("files that gc finds", backend="memory")
def test_a_later_failure(record, other, break_storage, backend):
    break_storage(RuntimeError("a bug of Kinto's"))

    batch(
        record.app,
        ("DELETE", record.path),
        ("DELETE", other.endpoint),
        ("PUT", record.other("broken").path, {"data": {}}),
        status=500,
    )

    if backend == "postgresql":
        assert record.content == b"content"
        assert other.content == b"other"


@pytest.mark.leaves("files that gc finds", backend="memory")
def test_a_later_refusal_of_ours_undoes_all_of_it(record, other, backend):
    forged = {"data": {"attachment": {**other.data["attachment"], "size": 1}}}

    batch(record.app, ("DELETE", record.path), ("PATCH", other.path, forged), status=400)

    assert other.content == b"other"
    if backend == "postgresql":
        assert record.content == b"content"


def test_a_later_refusal_of_kintos_undoes_nothing_else(record, other):
    stale = record.other("stale")

    statuses = batch(
        record.app,
        ("DELETE", record.path),
        ("PATCH", stale.path, {"data": {}}),
        ("PATCH", other.path, {"data": 5}),
    )

    assert statuses == [200, 404, 400]
    assert record.files() == [other.data["attachment"]["location"].rpartition("/")[2]]


def test_put_delete_put_of_one_record(record):
    same = data(record)

    batch(
        record.app, ("PUT", record.path, same), ("DELETE", record.path), ("PUT", record.path, same)
    )

    assert record.content == b"content"


def test_put_delete_put_and_the_last_one_without_the_file(record):
    batch(
        record.app,
        ("PUT", record.path, data(record)),
        ("DELETE", record.path),
        ("PUT", record.path, {"data": {"title": "second"}}),
    )

    assert record.data["title"] == "second"
    assert record.files() == []


def test_put_delete_put_of_a_copy(record):
    copy = record.other("copy")

    batch(
        record.app,
        ("PUT", copy.path, data(record)),
        ("DELETE", copy.path),
        ("PUT", copy.path, data(record)),
    )
    record.app.delete(record.path)

    assert copy.content == b"content"


def test_a_file_is_detached_and_attached_again(record):
    same = data(record)

    batch(record.app, ("DELETE", record.endpoint), ("PUT", record.path, same))

    assert record.content == b"content"


@pytest.mark.parametrize("copied", [None, "r", "far"])
def test_a_collection_is_deleted_and_created_with_a_new_record(
    record, elsewhere, collection, copied
):
    far = elsewhere
    far.attach(b"far")
    body = {None: {"data": {"title": "new"}}, "r": data(record), "far": data(far)}[copied]

    statuses = batch(
        record.app,
        ("DELETE", collection),
        ("PUT", collection, {}),
        ("PUT", record.other("new").path, body),
    )

    assert statuses == [200, 201, 201]
    assert far.content == b"far"
    # Kinto deletes the records of a collection only after all of the batch.
    assert record.app.get(f"{collection}/records").json["data"] == []
    assert len(record.files()) == 1


def test_a_bucket_is_deleted_and_created_with_the_same_record(record, collection):
    bucket = collection.removesuffix("/collections/c")

    batch(
        record.app,
        ("DELETE", bucket),
        ("PUT", bucket, {}),
        ("PUT", collection, {}),
        ("PUT", record.path, data(record)),
    )

    assert record.files() == []

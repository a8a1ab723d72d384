"""What others do between the first and the last byte of an upload."""

from __future__ import annotations

import threading

import pytest

from tests.support.forms import file_part, form

pytestmark = pytest.mark.both_storages


class Interrupted:
    """A body that ends once ``happens`` was called, in a thread as another request is."""

    def __init__(self, content: bytes, happens) -> None:
        self._rest = content
        self._happens = happens

    def read(self, size: int) -> bytes:
        if not self._rest:
            thread = threading.Thread(target=self._happens)
            thread.start()
            thread.join(timeout=20)
            assert not thread.is_alive(), "the other request waits for the upload"
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk


@pytest.fixture
def upload(record):
    """``upload(happens)``: upload to the record, and have that happen before the last byte."""

    def upload(happens, status=None, *, target=record, **environ):
        body = Interrupted(form([file_part(b"slow")]), happens)
        return target.stream(body, status, **{"wsgi.input_terminated": True, **environ})

    return upload


def test_an_attribute_that_changes_meanwhile_is_kept(record, upload):
    record.create(title="old")

    upload(lambda: record.app.patch_json(record.path, {"data": {"title": "new"}}))

    assert record.data["title"] == "new"
    assert record.content == b"slow"


def test_a_file_that_is_attached_meanwhile_is_replaced(record, upload):
    record.attach(b"first")

    upload(lambda: record.attach(b"quick"))

    assert record.content == b"slow"
    assert len(record.files()) == 1


def test_a_record_that_is_created_meanwhile_is_updated(record, upload):
    response = upload(lambda: record.attach(b"quick", data={"title": "kept"}))

    assert response.status_code == 200
    assert record.data["title"] == "kept"
    assert record.content == b"slow"
    assert len(record.files()) == 1


def test_a_record_that_is_deleted_meanwhile_is_created_again(record, upload):
    record.attach(b"first", data={"title": "gone"})

    response = upload(lambda: record.app.delete(record.path))

    assert response.status_code == 201
    assert "title" not in record.data
    assert record.content == b"slow"
    assert len(record.files()) == 1


def test_a_version_that_is_outdated_meanwhile(record, upload):
    record.attach(b"first")

    upload(lambda: record.attach(b"quick"), 412, HTTP_IF_MATCH=record.etag)

    assert record.content == b"quick"
    assert len(record.files()) == 1


def test_a_record_created_meanwhile_where_none_should_be(record, upload):
    upload(lambda: record.attach(b"quick"), 412, HTTP_IF_NONE_MATCH="*")

    assert record.content == b"quick"
    assert len(record.files()) == 1


def test_a_collection_that_is_deleted_meanwhile(record, upload):
    record.attach(b"first")

    upload(lambda: record.app.delete("/v1/buckets/b/collections/c"), 404)

    assert record.files() == []


def test_a_bucket_that_is_deleted_meanwhile(record, upload):
    upload(lambda: record.app.delete("/v1/buckets/b"), 404)

    assert record.files() == []


def test_a_permission_that_is_taken_away_meanwhile(record, upload):
    record.create()
    bob = record.as_user("bob")
    grant = {"permissions": {"write": [bob.app.userid]}}
    record.app.patch_json(record.path, grant)
    refuse = {"permissions": {"write": []}}

    upload(lambda: record.app.patch_json(record.path, refuse), 403, target=bob)

    assert "attachment" not in record.data
    assert record.files() == []


def test_a_group_that_is_left_meanwhile(record, upload):
    record.create()
    bob = record.as_user("bob")
    group = "/v1/buckets/b/groups/editors"
    record.app.put_json(group, {"data": {"members": [bob.app.userid]}})
    grant = {"permissions": {"write": ["/buckets/b/groups/editors"]}}
    record.app.patch_json(record.path, grant)

    upload(
        lambda: record.app.put_json(group, {"data": {"members": []}}),
        403,
        target=bob,
    )

    assert record.files() == []


def test_a_schema_that_is_set_meanwhile(record, upload):
    schema = {"type": "object", "required": ["title"]}

    upload(
        lambda: record.app.patch_json("/v1/buckets/b/collections/c", {"data": {"schema": schema}}),
        400,
    )

    assert not record.exists
    assert record.files() == []


def test_a_reader_of_the_empty_collection_does_not_wait(record, upload):
    answers = []

    upload(lambda: answers.append(record.app.get("/v1/buckets/b/collections/c/records")))

    assert answers[0].json["data"] == []


def test_listeners_after_the_commit_are_told_all_the_same(spied_record):
    body = Interrupted(form([file_part(b"slow")]), lambda: None)

    spied_record.stream(body, **{"wsgi.input_terminated": True})

    assert len(spied_record.app.registry.spied_after) == 1

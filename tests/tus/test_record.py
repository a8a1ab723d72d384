"""The rules of the plain upload hold for one over several requests, from its beginning on."""

from __future__ import annotations

import pytest
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.storage import StorageUnavailable
from tests.support.forms import Unread
from tests.support.records import Record
from tests.support.servers.s3 import MotoServer
from tests.support.tus import OFFSET_TYPE, Upload, begin, creation, metadata

CONTENT = b"0123456789"
COLLECTION = "/v1/buckets/b/collections/c"


def test_the_record_is_merged(record):
    record.create(title="kept", state="old")
    sent = metadata(filename="a.txt", data={"state": "new"})

    begin(record, Upload_Metadata=sent).patch(0, CONTENT)

    assert (record.data["title"], record.data["state"]) == ("kept", "new")


def test_the_file_is_replaced(record):
    record.attach(b"first")

    begin(record).patch(0, CONTENT)

    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_the_file_goes_with_the_record(record):
    begin(record).patch(0, CONTENT)

    record.app.delete(record.path)

    assert record.files() == []


def test_the_event_is_that_of_a_plain_upload(spied_record):
    record = spied_record
    record.attach()
    begin(record).patch(0, CONTENT)
    begin(record.other()).patch(0, CONTENT)

    for told in (record.app.registry.spied, record.app.registry.spied_after):
        plain, update, create = told
        same = {key: value for key, value in update.payload.items() if key != "timestamp"}
        expected = {**plain.payload, "action": "update"}
        del expected["timestamp"]
        assert same == expected
        assert create.payload["action"] == "create"
        assert create.payload["uri"] == "/buckets/b/collections/c/records/other/attachment"
        assert create.payload["record_id"] == "other"


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_write(record, status):
    upload = begin(record)
    other = record.as_user(None if status == 401 else "bob")

    creation(other, status=status, Upload_Length="10")
    for method in ("HEAD", "PATCH", "DELETE"):
        answer = Upload(other, upload.url).send(
            method, status=status, content_type=OFFSET_TYPE, Upload_Offset="0"
        )
        assert answer.headers["Tus-Resumable"] == "1.0.0"

    assert upload.offset == 0


@pytest.mark.parametrize("user", [None, "bob"])
def test_the_upload_of_another_user(record, user):
    collection = {"permissions": {"write": ["system.Everyone"]}}
    record.app.patch_json(COLLECTION, collection)
    upload = begin(record)
    other = upload.as_user(user)

    other.head(404)
    other.patch(0, CONTENT, 404)
    other.delete(404)

    assert upload.offset == 0


def test_an_anonymous_upload(record):
    record.app.patch_json(COLLECTION, {"permissions": {"write": ["system.Everyone"]}})
    upload = begin(record.as_user(None))

    upload.patch(0, b"01234")
    upload.as_user("bob").head(404)
    upload.patch(5, b"56789")

    assert record.content == CONTENT


@pytest.mark.parametrize("path", ["/buckets/none/collections/c", "/buckets/b/collections/none"])
def test_where_there_is_no_collection(record, path):
    other = Record(record.app, record.stored, f"{path}/records/r")

    creation(other, status=404, Upload_Length="10")


def test_an_extension_that_is_not_allowed(make_record):
    record = make_record(attachment={"extensions": "images"})

    response = creation(
        record, status=400, Upload_Length="10", Upload_Metadata=metadata(filename="a.txt")
    )

    assert response.json["message"] == "body: File extension is not allowed."
    begin(record, Upload_Metadata=metadata(filename="a.png")).patch(0, CONTENT)
    assert record.content == CONTENT


def test_larger_than_allowed(make_record):
    record = make_record(attachment={"max_size_bytes": "10"})

    creation(record, status=413, Upload_Length="11")
    begin(record).patch(0, CONTENT)

    assert record.content == CONTENT


def test_larger_than_allowed_where_the_length_comes_later(make_record):
    record = make_record(attachment={"max_size_bytes": "10"})
    upload = begin(record, None)
    upload.patch(0, b"01234")

    upload.patch(5, b"567890", 413)
    upload.patch(5, b"5", 413, Upload_Length="11")

    assert upload.offset == 5
    upload.patch(5, b"56789", Upload_Length="10")
    assert record.content == CONTENT


def test_a_limit_without_a_length(make_record):
    record = make_record(attachment={"max_size_bytes": "4"})

    creation(record, CONTENT, 413, OFFSET_TYPE, Upload_Defer_Length="1")

    assert record.files() == []


def test_a_folder_that_would_be_too_long(make_record):
    record = make_record(attachment={"folder": "{bucket_id}" * 300})

    creation(record, status=400, Upload_Length="10")


SCHEMA = {
    "type": "object",
    "required": ["title", "attachment"],
    "properties": {
        "attachment": {
            "properties": {
                "hash": {"pattern": "^[0-9a-f]{64}$"},
                "location": {"pattern": r"^https://files\.example\.org/.*\.txt$"},
                "mimetype": {"enum": ["text/plain"]},
                "size": {"minimum": 1, "maximum": 10},
            }
        }
    },
}


@pytest.mark.parametrize(
    ("data", "filename", "length", "status"),
    [
        ({"title": "t"}, "a.txt", "10", 201),
        ({"title": "t"}, "a.txt", None, 201),
        ({}, "a.txt", "10", 400),
        ({"title": "t"}, "a.png", "10", 400),
        ({"title": "t"}, "a.txt", "11", 400),
    ],
)
def test_the_schema_of_the_collection(record, data, filename, length, status):
    record.app.patch_json(COLLECTION, {"data": {"schema": SCHEMA}})
    announced = {"Upload_Length": length} if length else {"Upload_Defer_Length": "1"}
    sent = metadata(filename=filename, data=data)

    creation(record, status=status, Upload_Metadata=sent, **announced)

    assert len(record.files()) == (status == 201)


def test_the_schema_of_a_record_that_exists(record):
    record.create(title="t")
    record.app.patch_json(COLLECTION, {"data": {"schema": SCHEMA}})

    begin(record).patch(0, CONTENT)

    assert record.content == CONTENT


def test_a_version_that_is_outdated_already(record):
    record.create()

    creation(record, status=412, Upload_Length="10", If_Match='"1"')
    creation(record, status=412, Upload_Length="10", If_None_Match="*")
    creation(record.other(), status=412, Upload_Length="10", If_Match='"1"')


def test_a_version_that_still_holds(record):
    record.create()
    upload = begin(record, If_Match=record.etag)

    # Clients send their headers with each request.
    upload.head(If_Match='"1"')
    upload.patch(0, b"01234", If_Match='"1"')
    upload.patch(5, b"56789", If_Match='"1"')

    assert record.content == CONTENT


def test_a_record_that_should_not_exist(record):
    upload = begin(record, If_None_Match="*")

    upload.patch(0, CONTENT, If_None_Match="*")

    assert record.content == CONTENT


def test_the_default_bucket(app, stored):
    record = Record(app, stored, "/buckets/default/collections/assets/records/r")

    created = creation(record, Upload_Length="10", Upload_Metadata=metadata(filename="a.txt"))

    bucket = app.get("/v1/").json["user"]["bucket"]
    upload = Upload(record, created.headers["Location"])
    assert upload.url.startswith(f"http://localhost/v1/buckets/{bucket}/collections/assets/")
    assert len(app.get("/v1/buckets").json["data"]) == 1
    upload.patch(0, b"01234")
    # A client may insist on the alias.
    alias = Upload(record, f"http://localhost{record.endpoint}/uploads/{upload.id}")
    assert alias.head().headers["Upload-Offset"] == "5"
    response = alias.patch(0, b"x", 409)
    assert response.headers["Upload-Offset"] == "5"
    assert response.headers["Tus-Resumable"] == "1.0.0"
    response = alias.patch(5, b"56789")
    assert response.headers["Location"] == f"http://localhost/v1{'/buckets/' + bucket}" + (
        "/collections/assets/records/r"
    )
    assert record.content == CONTENT
    alias.delete()
    alias.head(404)
    alias.as_user(None).head(401)


def test_the_default_bucket_in_one_request(app, stored):
    record = Record(app, stored, "/buckets/default/collections/assets/records/r")

    creation(record, CONTENT, 201, OFFSET_TYPE, Upload_Length="10")

    assert record.content == CONTENT
    assert len(record.files()) == 1


def test_nothing_is_created_in_the_default_bucket_by_a_refusal(app, stored):
    record = Record(app, stored, "/buckets/default/collections/assets/records/r")

    creation(record, status=400, Upload_Length="x")
    begin_elsewhere = Upload(record, f"http://localhost{record.endpoint}/uploads/x")
    begin_elsewhere.head(404)
    creation(record, CONTENT, 460, OFFSET_TYPE, Upload_Length="10", **WRONG)

    assert app.get("/v1/buckets").json["data"] == []


WRONG = {"Upload_Metadata": metadata(sha256="0" * 64)}


def test_a_body_that_is_refused_is_not_read(record):
    upload = begin(record)

    upload.stream(1, Unread(), 409, CONTENT_LENGTH="10")
    upload.stream(0, Unread(), 413, CONTENT_LENGTH="11")
    upload.stream(0, Unread(), 400, CONTENT_LENGTH="x")


def test_a_body_of_unknown_length(record):
    upload = begin(record)

    upload.stream(0, Unread(b"01234", 6), 204, **{"wsgi.input_terminated": True})
    upload.stream(5, Unread(b"567890", 6), 413, **{"wsgi.input_terminated": True})
    assert upload.offset == 5
    upload.stream(5, Unread(b"56789", 6), 204, **{"wsgi.input_terminated": True})

    assert record.content == CONTENT


def storage_of(record):
    return record.app.registry.getUtility(IFileStorage)


def down(*args, **options):
    raise StorageUnavailable("it is down")


def test_a_storage_that_is_down_at_the_beginning(record, monkeypatch):
    monkeypatch.setattr(storage_of(record), "create", down)

    response = creation(record, status=503, Upload_Length="10")

    assert "Retry-After" in response.headers
    assert record.files() == []


@pytest.mark.parametrize("method", ["resume", "stat"])
def test_a_storage_that_is_down_while_all_is_sent_at_once(record, monkeypatch, method):
    with monkeypatch.context() as patch:
        patch.setattr(record.app.registry.attachment_files, method, down)
        creation(record, CONTENT, 503, OFFSET_TYPE, Upload_Length="10")

    assert record.files() == []
    assert not record.exists


@pytest.mark.parametrize("method", ["resume", "stat"])
def test_a_storage_that_is_down_at_the_end_can_be_tried_again(record, monkeypatch, method):
    upload = begin(record)
    upload.patch(0, b"01234")
    with monkeypatch.context() as patch:
        patch.setattr(storage_of(record), method, down)
        response = upload.patch(5, b"56789", 503)
        assert response.headers["Tus-Resumable"] == "1.0.0"
        assert not record.exists

    # Never all of it: clients would take that for a success.
    offset = upload.offset
    assert offset == {"resume": 5, "stat": 9}[method]
    upload.patch(offset, CONTENT[offset:])

    assert record.content == CONTENT
    assert len(record.files()) == 1


@pytest.mark.apart
def test_s3_that_is_down_at_the_end(make_record):
    with MotoServer() as server:
        record = make_record(
            attachment={
                "base_path": None,
                "aws.bucket": server.bucket,
                "aws.endpoint_url": server.endpoint_url,
                "aws.access_key": server.access_key,
                "aws.secret_key": server.secret_key,
                "aws.region": server.region,
                "aws.use_path_style": "true",
                "aws.num_retries": "0",
            }
        )
        upload = begin(record)
        upload.patch(0, b"01234")
        server.kill()

        upload.patch(5, b"56789", 503)

        assert upload.offset == 5
        assert not record.exists


def test_a_file_that_is_not_what_was_sent(record):
    upload = begin(record)
    upload.patch(0, b"01234")
    (part,) = record.files()
    (record.folder / part).unlink()

    upload.patch(5, b"56789", 410)

    upload.head(404)
    assert not record.exists
    assert record.files() == []

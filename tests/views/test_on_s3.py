"""Attachments whose files are on S3, through a running server that speaks it."""

from __future__ import annotations

import functools

import pytest

from tests.support.inventory import Bucket
from tests.support.records import Record
from tests.support.servers.s3 import MiniStackServer, MotoServer, RcloneServer
from tests.support.tus import begin

MIB = 1024 * 1024
FOREVER = "public, max-age=31536000, immutable"
MORE_STORES = [
    pytest.param(server, marks=pytest.mark.more_stores)
    for server in (MiniStackServer, RcloneServer)
]


@pytest.fixture(scope="module", params=["seaweedfs_server", *MORE_STORES])
def s3(request):
    if isinstance(request.param, str):
        yield request.getfixturevalue(request.param)
    else:
        with request.param() as server:
            yield server


@pytest.fixture
def stored(s3):
    yield Bucket(s3)
    s3.empty()


@pytest.fixture
def record(make_record):
    return make_record(attachment={"folder": "{bucket_id}"})


def key_of(answer):
    return answer.json["location"].removeprefix("https://files.example.org/")


def content_of(s3, key):
    return s3.admin.get_object(Bucket=s3.bucket, Key=key)


def test_the_file_is_stored_as_what_it_is(record, s3):
    answer = record.attach(b"content", "a.txt", "application/x-thing")

    key = key_of(answer)
    assert key.startswith("b/")
    stored = content_of(s3, key)
    assert stored["Body"].read() == b"content"
    assert stored["ContentType"] == answer.json["mimetype"] == "application/x-thing"


@pytest.mark.parametrize("randomize", ["true", "false"])
def test_the_object_says_how_long_it_may_be_cached(make_record, s3, randomize):
    everywhere = {"randomize": randomize, "cache_control": FOREVER}
    record = make_record(attachment={**everywhere, "resources.b.plain.cache_control": ""})
    record.app.put_json("/v1/buckets/b/collections/plain", {})
    plain = Record(record.app, record.stored, "/buckets/b/collections/plain/records/r")

    for content in (b"content", bytes(6 * MIB)):
        assert content_of(s3, key_of(record.attach(content)))["CacheControl"] == FOREVER
        assert "CacheControl" not in content_of(s3, key_of(plain.attach(content)))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("randomize", ["true", "false"])
@pytest.mark.parametrize("size", [7, 6 * MIB])
def test_a_resumable_upload_keeps_the_cache_control_of_its_beginning(
    make_record, s3, randomize, size
):
    record = make_record(attachment={"randomize": randomize, "cache_control": FOREVER})
    upload = begin(record, size)

    changed = make_record(attachment={"randomize": randomize, "cache_control": "no-store"})
    upload.record = changed
    upload.patch(0, bytes(size))

    [key] = record.files()
    assert content_of(s3, key)["CacheControl"] == FOREVER


def test_the_file_is_replaced_and_deleted(record, s3):
    first = key_of(record.attach(b"first"))
    second = key_of(record.attach(b"second"))

    assert first != second
    assert s3.keys() == [second]

    record.detach()
    assert s3.keys() == []


def test_deleting_the_bucket_deletes_the_files(record, s3):
    record.attach()
    record.other().attach()

    record.app.delete("/v1/buckets/b")

    assert s3.keys() == []


def test_a_refused_upload_leaves_nothing(record, s3):
    first = key_of(record.attach(b"first"))

    record.attach(b"second", headers={"If-Match": '"1"'}, status=412)
    record.attach(b"second", data={"id": "other"}, status=400)
    record.send(status=400)

    assert s3.keys() == [first]
    assert s3.uploads() == []


def test_names_are_those_of_the_files_where_randomize_is_false(make_record):
    record = make_record(attachment={"randomize": "false"})

    assert key_of(record.attach(filename="a.txt")) == "a.txt"
    assert key_of(record.other().attach(filename="a.txt")) == "a-1.txt"


def test_the_heartbeat(record, s3):
    assert record.app.get("/v1/__heartbeat__").json["attachments"] is True
    assert s3.keys() == []


def check_that_it_is_not_available(record):
    response = record.attach(status=503)

    assert response.json["errno"] == 201
    assert response.json["message"] == "The file storage is not available, please retry later."
    assert "Retry-After" in response.headers
    assert not record.exists
    assert record.app.get("/v1/__heartbeat__", status=503).json["attachments"] is False


def test_a_bucket_that_does_not_exist(make_record):
    record = make_record(attachment={"aws.bucket": "no-such-bucket"})

    check_that_it_is_not_available(record)


@pytest.mark.more_stores
@pytest.mark.parametrize("s3", [MiniStackServer], indirect=True)
def test_a_bucket_that_refuses_the_acl(make_record, caplog):
    record = make_record(attachment={"aws.acl": "public-read"})

    heartbeat = functools.partial(record.app.get, "/v1/__heartbeat__")
    for refused in (record.attach, heartbeat):
        caplog.clear()
        refused(status=503)
        assert "leave aws.acl empty" in caplog.text


def test_a_key_that_is_wrong(make_record):
    record = make_record(attachment={"aws.secret_key": "wrong"})

    check_that_it_is_not_available(record)


@pytest.mark.leaves("a record whose file nobody can read any more")
def test_a_storage_that_is_down(make_record):
    with MotoServer() as server:
        record = make_record(attachment=Bucket(server).settings)
        record.attach(b"first", data={"title": "kept"})
        before = record.data
        server.kill()

        response = record.attach(b"second", status=503)

    assert "Retry-After" in response.headers
    assert record.data == before


@pytest.mark.leaves("a file that gc finds")
def test_a_file_that_cannot_be_deleted_now_is_left(make_record, caplog):
    with MotoServer() as server:
        record = make_record(attachment=Bucket(server).settings)
        record.attach(b"first")
        server.kill()

        record.detach()

    assert record.data["attachment"] is None
    assert "left for gc" in caplog.text

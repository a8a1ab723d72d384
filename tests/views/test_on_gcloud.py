"""Attachments whose files are on Google Cloud Storage, through a server that plays it."""

from __future__ import annotations

import re

import pytest

from tests.support.inventory import GoogleBucket
from tests.support.servers.gcs import GcsServer, answers_as, loses_the_answer
from tests.support.servers.gcs.errors import GcsError, unavailable
from tests.support.tus import begin

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server():
    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs(server):
    yield server
    server.reset()
    server.disconnect()


@pytest.fixture
def stored(gcs):
    return GoogleBucket(gcs)


@pytest.fixture
def record(make_record):
    return make_record(attachment={"folder": "{bucket_id}"})


def key_of(answer):
    return answer.json["location"].removeprefix("https://files.example.org/")


def check_that_it_is_not_available(record):
    response = record.attach(status=503)

    assert response.json["errno"] == 201
    assert response.json["message"] == "The file storage is not available, please retry later."
    assert "Retry-After" in response.headers
    assert not record.exists


@pytest.mark.parametrize("size", [7, 6 * MIB])
@pytest.mark.parametrize("randomize", ["true", "false"])
def test_the_file_is_stored_as_what_it_is(make_record, gcs, size, randomize):
    record = make_record(attachment={"randomize": randomize, "cache_control": "public, max-age=9"})
    answer = record.attach(bytes(size), "a.txt", "application/x-thing")

    stored = gcs.objects()[key_of(answer)]
    assert stored.content == bytes(size)
    assert stored.content_type == answer.json["mimetype"] == "application/x-thing"
    assert (stored.cache_control, stored.acl) == ("public, max-age=9", "publicRead")


def test_the_file_is_replaced_and_deleted(record, gcs):
    first = key_of(record.attach(b"first"))
    second = key_of(record.attach(b"second"))

    assert first != second
    assert gcs.keys() == [second]

    record.detach()
    assert gcs.keys() == []


def test_deleting_the_bucket_deletes_the_files(record, gcs):
    record.attach()
    record.other().attach()

    record.app.delete("/v1/buckets/b")

    assert gcs.keys() == []


def test_a_refused_upload_leaves_nothing(record, gcs):
    first = key_of(record.attach(b"first"))

    record.attach(b"second", headers={"If-Match": '"1"'}, status=412)
    record.attach(bytes(6 * MIB), data={"id": "other"}, status=400)
    record.send(status=400)

    assert gcs.keys() == [first]
    assert gcs.sessions() == []


def test_names_are_those_of_the_files_where_randomize_is_false(make_record):
    record = make_record(attachment={"randomize": "false"})

    assert key_of(record.attach(filename="a.txt")) == "a.txt"
    assert key_of(record.other().attach(filename="a.txt")) == "a-1.txt"


@pytest.mark.parametrize("size", [7, 6 * MIB])
def test_a_resumable_upload_becomes_the_file(record, gcs, size):
    upload = begin(record, size)
    upload.patch(0, bytes(size - 5))
    upload.patch(size - 5, bytes(5))

    [name] = gcs.keys()
    assert gcs.objects()[name].content == bytes(size)
    assert gcs.objects()[name].acl == "publicRead"


def test_an_answer_that_is_lost_once_is_not_noticed(record, gcs):
    for operation in ("insert", "delete"):
        gcs.fail(operation, loses_the_answer, times=1)

    record.attach(b"first")
    second = key_of(record.attach(b"second"))

    assert gcs.keys() == [second]


def test_the_heartbeat_asks_for_permissions_and_stores_nothing(record, gcs):
    record.attach()
    gcs.requests.clear()

    assert record.app.get("/v1/__heartbeat__").json["attachments"] is True
    assert [request.operation for request in gcs.requests] == ["permissions"]

    gcs.permissions = {"storage.objects.get"}
    assert record.app.get("/v1/__heartbeat__", status=503).json["attachments"] is False


def test_a_bucket_that_does_not_exist(make_record):
    record = make_record(attachment={"gcloud.bucket_name": "no-such-bucket"})

    check_that_it_is_not_available(record)
    assert record.app.get("/v1/__heartbeat__", status=503).json["attachments"] is False


def test_a_bucket_where_nothing_may_be_public(record, gcs, caplog):
    gcs.public_access_prevention = True

    check_that_it_is_not_available(record)
    assert "public access prevention is enforced" in caplog.text


def test_what_google_will_never_take_is_too_large(record, gcs):
    gcs.fail("insert", answers_as(GcsError(413, "uploadTooLarge", "Payload Too Large.")))

    response = record.attach(status=413)

    assert response.json["message"] == "The attachment is larger than the file storage can hold."


@pytest.mark.leaves("a record whose file cannot be read while the server is down")
def test_a_storage_that_fails_keeps_what_was_there(record, gcs):
    record.attach(b"first", data={"title": "kept"})
    before = record.data
    gcs.fail("*", answers_as(unavailable()))

    response = record.attach(b"second", status=503)
    gcs.heal()

    assert "Retry-After" in response.headers
    assert record.data == before
    assert len(gcs.keys()) == 1


@pytest.mark.leaves("a file that gc finds")
def test_a_file_under_hold_is_left_and_told(record, gcs, caplog):
    name = key_of(record.attach(b"first"))
    gcs.buckets[gcs.bucket].patch(name, {"temporaryHold": True}, {})

    record.detach()

    assert record.data["attachment"] is None
    assert gcs.keys() == [name]
    assert "under active Temporary hold" in caplog.text


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_a_request_that_is_sent_again_is_counted(make_record, gcs):
    plugins = "kinto.plugins.prometheus kinto_attachment"
    record = make_record(**{"kinto.includes": plugins, "kinto.attachment.gcloud.num_retries": "1"})

    def retries():
        text = record.app.get("/v1/__metrics__").text
        (count,) = re.findall(r'^kinto_attachments_retries_total{of="storage"} (.+)$', text, re.M)
        return float(count)

    before = retries()
    gcs.fail("insert", loses_the_answer, times=1)
    record.attach()

    assert retries() == before + 1

"""Private files on Google Cloud Storage: in a bucket of their own, read with a presigned URL."""

from __future__ import annotations

import pytest
import requests

from tests.support.inventory import GoogleBucket
from tests.support.servers.gcs import GcsServer
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
def make_private(make_record, gcs, stored):
    def make(**attachment):
        credentials = {"gcloud.credentials": str(gcs.credentials_file)}
        settings = {**stored.private_settings, **credentials, "private": "true", **attachment}
        return make_record(attachment=settings)

    return make


@pytest.mark.parametrize("size", [7, 9 * MIB])
def test_it_has_no_acl_and_is_in_a_bucket_of_its_own(make_private, gcs, stored, size):
    record = make_private()
    record.attach(bytes(size))

    assert gcs.keys() == []
    [private] = stored.private_objects()
    assert (private.content, private.acl) == (bytes(size), None)
    assert private.cache_control == "private, no-cache"
    url = f"{gcs.endpoint_url}/{private.bucket}/{private.name}"
    assert requests.get(url).status_code == 403  # noqa: S113 - of a server beside this process
    assert record.app.get(record.endpoint).body == bytes(size)
    record.app.as_user("bob").get(record.endpoint, status=403)


def test_in_several_requests(make_private, stored):
    record = make_private()
    upload = begin(record, 7)
    upload.patch(0, b"con")
    upload.patch(3, b"tent")

    assert record.content == b"content"
    assert [each.acl for each in stored.private_objects()] == [None]


def test_a_presigned_url_reads_it(make_private):
    record = make_private(**{"download.mode": "redirect"})
    record.attach(b"<svg/>", "é.svg")

    url = record.app.get(record.endpoint, status=302).headers["Location"]

    answer = requests.get(url)  # noqa: S113
    assert answer.content == b"<svg/>"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="e.svg"')


def test_it_goes_with_its_record(make_private, stored):
    record = make_private()
    record.attach()

    record.app.delete(record.path)

    assert stored.private_objects() == []

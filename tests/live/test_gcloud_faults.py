"""Google Cloud Storage that is down, that answers 500, that cuts the connection, and whose answers
get lost, at every request of an upload.

What a storage does then, without a server around it, is in ``tests/storage``.
"""

from __future__ import annotations

import pytest

from tests.support.live import tus
from tests.support.live.answers import check_that_storage_is_unavailable
from tests.support.live.client import KIB, uri_of
from tests.support.live.faulty import (
    BUCKETS,
    FIRST,
    LARGE,
    SENT,
    SMALL,
    check_that_nothing_happened,
    prepare,
)
from tests.support.live.site import Site
from tests.support.live.waiting import wait_for
from tests.support.servers.gcs import answers_as, breaks_the_line, loses_the_answer
from tests.support.servers.gcs.errors import GcsError

FAULTS = {
    "fails inside": answers_as(GcsError(500, "backendError", "Backend Error")),
    "breaks off": breaks_the_line(100),
    "loses the answer": loses_the_answer,
}

faults = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
# Where files keep their names, a large one is composed to it once it is there.
buckets = pytest.mark.parametrize("bucket", BUCKETS)


def chunk(request):
    """A chunk that others follow."""
    return request.operation == "chunk" and request.headers["Content-Range"].endswith("/*")


def finish(request):
    """The last chunk."""
    return request.operation == "chunk" and not chunk(request)


@pytest.fixture
def site(gcs_site: Site) -> Site:
    return prepare(gcs_site)


@faults
@buckets
def test_a_small_file(site, gcs, bucket, fault):
    gcs.fail("insert", fault)

    answer = site.client.attach(uri_of("c", bucket=bucket), SMALL)

    check_that_nothing_happened(answer, site, bucket)


@faults
@pytest.mark.parametrize("operation", [chunk, finish])
@buckets
def test_a_large_file(site, gcs, bucket, operation, fault):
    gcs.fail(operation, fault)

    answer = site.client.attach(uri_of("c", bucket=bucket), LARGE)

    check_that_nothing_happened(answer, site, bucket)


@faults
@buckets
def test_a_large_file_that_is_about_to_begin(site, gcs, bucket, fault):
    """Nobody knows the session whose answer was lost: Google forgets it."""
    gcs.fail("start", fault)

    answer = site.client.attach(uri_of("c", bucket=bucket), LARGE)

    forgotten = site.files.unfinished() if fault is loses_the_answer else []
    check_that_nothing_happened(answer, site, bucket, forgotten)


@faults
def test_a_large_file_on_the_way_to_its_name(site, gcs, fault):
    gcs.fail("compose", fault)

    answer = site.client.attach(uri_of("c", bucket="named"), LARGE)

    check_that_nothing_happened(answer, site, "named")


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_name_that_is_taken_by_the_upload_itself(site, gcs, content):
    """Its answer was lost, and so was that to the question about it."""
    operation = "insert" if content is SMALL else "compose"
    gcs.fail(operation, loses_the_answer)
    gcs.fail("get", FAULTS["fails inside"], times=1)

    answer = site.client.attach(uri_of("c", bucket="named"), content)

    check_that_storage_is_unavailable(answer)
    site.assert_shows(uri_of("c", bucket="named"), FIRST)
    # It could not be told from others any more.
    site.assert_consistent(site.leftovers())


@buckets
def test_nobody_there(site, gcs, bucket):
    with gcs.down():
        answer = site.client.attach(uri_of("c", bucket=bucket), SMALL)

    check_that_nothing_happened(answer, site, bucket)


def test_nobody_there_any_more(site, gcs):
    """The session stays: nobody can be asked to cancel it."""
    with site.client.begin(uri_of("c"), LARGE, SENT) as upload:
        wait_for(lambda: len(site.files.unfinished()) == 1)
        with gcs.down():
            status = upload.finish()

    assert status == 503
    site.assert_shows(uri_of("c"), FIRST)
    site.assert_consistent(site.files.unfinished())


@faults
@buckets
def test_a_previous_file_that_cannot_be_deleted_is_left(site, gcs, bucket, fault):
    gcs.fail("delete", fault)

    assert site.client.attach(uri_of("c", bucket=bucket), SMALL).status_code == 200

    site.assert_shows(uri_of("c", bucket=bucket), SMALL)
    assert "left for gc" in site.log()
    site.assert_consistent(site.leftovers())


@faults
def test_a_large_file_that_has_got_its_name_stays_whatever_is_left(site, gcs, fault):
    gcs.fail(lambda each: each.operation == "delete" and each.name.endswith(".part"), fault)

    assert site.client.attach(uri_of("c", bucket="named"), LARGE).status_code == 200

    site.assert_shows(uri_of("c", bucket="named"), LARGE)
    site.assert_consistent([name for name in site.leftovers() if name.endswith(".part")])


@faults
def test_a_resumable_upload_that_cannot_begin(site, gcs, fault):
    gcs.fail("insert", fault)

    answer = tus.create(site.client, uri_of("c"), len(LARGE))

    check_that_nothing_happened(answer, site, "b")


# Of a piece that is small, and of a larger one; then the file is made of them.
OPERATIONS = ("list", "insert", "start", chunk, finish, "compose", "get", "delete")


@faults
@pytest.mark.parametrize(
    ("bucket", "operation"), [*(("named", each) for each in OPERATIONS), ("b", "compose")]
)
def test_a_resumable_upload_goes_on_when_the_fault_is_over(site, gcs, bucket, operation, fault):
    uri = uri_of("c", bucket=bucket)
    upload = tus.Upload(tus.create(site.client, uri, len(LARGE)))
    gcs.fail(operation, fault)
    assert upload.patch(site.client, 0, LARGE[: 100 * KIB]).status_code in (204, 503)
    is_done = send_rest(site, upload) or send_rest(site, upload)
    gcs.heal()

    assert is_done or send_rest(site, upload)

    site.assert_shows(uri, LARGE)
    # Google forgets sessions that are left alone.
    site.assert_consistent(site.leftovers() if operation == "delete" else site.files.unfinished())


def send_rest(site, upload):
    """Return whether all of it is there."""
    offset = upload.offset(site.client)
    answer = upload.patch(site.client, offset, LARGE[offset:])
    assert answer.status_code in (204, 503)
    return answer.status_code == 204

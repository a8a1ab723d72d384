"""S3 that is down, that answers 500, and that cuts the connection, at every request of an upload.

What a storage does then, without a server around it, is in ``tests/storage/test_s3.py``.
"""

from __future__ import annotations

import pytest

from tests.support.live.client import uri_of
from tests.support.live.faulty import (
    BUCKETS,
    FIRST,
    LARGE,
    SENT,
    SMALL,
    check_that_nothing_happened,
    prepare,
)
from tests.support.live.proxy import breaks_off, fails_inside
from tests.support.live.site import Site
from tests.support.live.waiting import wait_for
from tests.support.servers.http import loses_the_answer

faults = pytest.mark.parametrize("fault", [fails_inside, breaks_off, loses_the_answer])
# Where files keep their names, a large one is copied to it once it is there.
buckets = pytest.mark.parametrize("bucket", BUCKETS)


@pytest.fixture
def site(s3_site: Site) -> Site:
    return prepare(s3_site)


@faults
@buckets
def test_a_small_file(site, s3_proxy, bucket, fault):
    s3_proxy.fail("put", fault)

    answer = site.client.attach(uri_of("c", bucket=bucket), SMALL)

    check_that_nothing_happened(answer, site, bucket)


@faults
@pytest.mark.parametrize("operation", ["create", "part", "complete"])
@buckets
def test_a_large_file(site, s3_proxy, bucket, operation, fault):
    s3_proxy.fail(operation, fault)

    answer = site.client.attach(uri_of("c", bucket=bucket), LARGE)

    check_that_nothing_happened(answer, site, bucket)


@faults
@pytest.mark.parametrize(
    ("operation", "after"), [("copy", 0), ("complete", 1)], ids=["copy", "complete"]
)
def test_a_large_file_on_the_way_to_its_name(site, s3_proxy, operation, after, fault):
    s3_proxy.fail(operation, fault, after)

    answer = site.client.attach(uri_of("c", bucket="named"), LARGE)

    check_that_nothing_happened(answer, site, "named")


def test_a_large_file_whose_way_to_its_name_may_have_begun(site, s3_proxy):
    """What has begun there cannot be told from the upload of another, and stays."""
    s3_proxy.fail("create", loses_the_answer, after=1)

    answer = site.client.attach(uri_of("c", bucket="named"), LARGE)

    check_that_nothing_happened(answer, site, "named", site.files.unfinished())


@buckets
def test_nobody_there(site, s3_proxy, bucket):
    with s3_proxy.down():
        answer = site.client.attach(uri_of("c", bucket=bucket), SMALL)

    check_that_nothing_happened(answer, site, bucket)


def test_nobody_there_any_more(site, s3_proxy):
    """The parts that have gone up stay: nobody can be asked to remove them."""
    with site.client.begin(uri_of("c"), LARGE, SENT) as upload:
        wait_for(lambda: len(site.files.unfinished()) == 1)
        with s3_proxy.down():
            status = upload.finish()

    assert status == 503
    site.assert_shows(uri_of("c"), FIRST)
    site.assert_consistent(site.files.unfinished())


@faults
def test_a_previous_file_that_cannot_be_deleted_is_left(site, s3_proxy, fault):
    s3_proxy.fail("delete", fault)

    assert site.client.attach(uri_of("c"), SMALL).status_code == 200

    site.assert_shows(uri_of("c"), SMALL)
    assert "left for gc" in site.log()
    site.assert_consistent(site.leftovers())

"""All processes killed (SIGKILL) while requests are at every step, and the server started again.

One kill for all of it: each request has a collection of its own, where nobody waits for it. The
tests look at what they find then.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial

import pytest
import requests

from tests.support.live.client import KIB, MIB, Client, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop
from tests.support.live.waiting import wait_for

FIRST = b"first"
SECOND = b"second"

# More than S3 and Google have in one request: a part of it is there when the rest is missing.
LARGE = b"large---" * (6 * MIB // 8)
SENT = 5 * MIB + 512 * KIB

REPLACED_AT = ("complete", "written", "committed")
CREATED_AT = ("complete", "written")
# Their file is about to be deleted, since they have committed.
ENDED = {
    "detached": ("DELETE", uri_of("detached") + "/attachment", None),
    "nulled": ("PATCH", uri_of("nulled"), {"data": {"attachment": None}}),
    "deleted": ("DELETE", uri_of("deleted"), None),
    "emptied": ("DELETE", "buckets/b/collections/emptied/records", None),
    "gone": ("DELETE", "buckets/b/collections/gone", None),
}


def replaced(step: str) -> str:
    return uri_of(f"replaced-{step}")


def created(step: str) -> str:
    return uri_of(f"created-{step}")


@pytest.fixture(scope="module", params=["the_local_site", "the_s3_site", "the_gcs_site"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """After the kill, and running again."""
    site: Site = request.getfixturevalue(request.param)
    site.clean()
    prepare(site.client)
    with ExitStack() as stack:
        at_steps(site, stack)
        uploads_in_flight(site, stack)
        site.kill()
    yield site
    site.clean()


def prepare(client: Client) -> None:
    """The records that are to be replaced, and those whose file is to go."""
    first = [replaced("receiving"), *map(replaced, REPLACED_AT), *map(uri_of, ENDED)]
    second = [created("receiving"), *map(created, CREATED_AT)]
    client.create_collections(*(uri.split("/")[3] for uri in [*first, *second]))
    for uri in first:
        client.attach(uri, FIRST).raise_for_status()


def at_steps(site: Site, stack: ExitStack) -> None:
    """Have a request stopped at every step."""
    client = site.client
    requested = {
        **{
            (step, replaced(step)): partial(client.attach, replaced(step), SECOND)
            for step in REPLACED_AT
        },
        **{
            (step, created(step)): partial(client.attach, created(step), SECOND)
            for step in CREATED_AT
        },
        **{("committed", name): partial(client.request, *ENDED[name]) for name in ENDED},
    }
    pool = stack.enter_context(ThreadPoolExecutor(len(requested)))
    for (step, _), action in requested.items():
        stop = stack.enter_context(Stop(step))
        pool.submit(unanswered, partial(action, headers=stop.headers))
        stop.wait()


def unanswered(action: partial[requests.Response]) -> None:
    with suppress(requests.ConnectionError):
        action()


def uploads_in_flight(site: Site, stack: ExitStack) -> None:
    """Have a part of two large files arrive."""
    before = set(site.leftovers())
    for uri in (replaced("receiving"), created("receiving")):
        stack.callback(site.client.begin(uri, LARGE, SENT).close)
    wait_for(lambda: len(set(site.leftovers()) - before) == 2)


@pytest.mark.parametrize("step", ["receiving", "complete", "written"])
def test_a_replacement_that_was_not_committed_leaves_the_previous_file(site, step):
    site.assert_shows(replaced(step), FIRST)


@pytest.mark.parametrize("step", ["receiving", "complete", "written"])
def test_an_upload_that_was_not_committed_leaves_no_record(site, step):
    assert site.client.request("GET", created(step)).status_code == 404


def test_a_replacement_that_was_committed_is_there(site):
    site.assert_shows(replaced("committed"), SECOND)


@pytest.mark.parametrize("name", ["detached", "nulled"])
def test_a_record_that_was_detached_shows_no_file(site, name):
    assert site.client.record(uri_of(name))["attachment"] is None


@pytest.mark.parametrize("name", ["deleted", "emptied", "gone"])
def test_a_record_that_was_deleted_is_gone(site, name):
    assert site.client.request("GET", uri_of(name)).status_code == 404


def test_what_is_left_over_are_files_that_nobody_references(site):
    """Those on their way, those that were not committed, and those about to be deleted."""
    leftovers = site.leftovers()

    assert len(leftovers) == 2 + len(("complete", "written") * 2) + 1 + len(ENDED)
    site.assert_consistent(leftovers)


def test_everything_works_as_before(site):
    leftovers = site.leftovers()
    uris = [*map(replaced, REPLACED_AT), *map(created, CREATED_AT), uri_of("detached")]

    for uri in uris:
        assert site.client.attach(uri, b"third").ok
        site.assert_shows(uri, b"third")

    assert site.leftovers() == leftovers
    site.assert_consistent(leftovers)


def test_gc_deletes_what_is_left_over(site):
    """The last test, and of files: parts of an upload to S3, and sessions of one to Google, are
    none."""
    found = site.gc()

    assert len(found) >= len(("complete", "written") * 2) + 1 + len(ENDED)
    assert site.leftovers() == site.files.unfinished()
    site.assert_consistent(site.leftovers())

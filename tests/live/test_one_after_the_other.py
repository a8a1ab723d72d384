"""Two requests about the same record or file: the second waits until the first has committed, and
then sees what it did."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.live.client import Answer, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop
from tests.support.live.waiting import wait_for

URI = uri_of("c")
COPY = uri_of("copies")
FIRST = b"first"

WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

# A request with its headers still to come.
Request = Callable[..., Answer]


@pytest.fixture
def site(local_site: Site) -> Site:
    """With a record that has a file."""
    local_site.client.create_collections("c", "copies")
    local_site.client.attach(URI, FIRST, title="old").raise_for_status()
    return local_site


def one_after_the_other(site: Site, first: Request, second: Request) -> tuple[Answer, Answer]:
    """``first`` has written everything, and commits once ``second`` waits for it."""
    with ThreadPoolExecutor(2) as pool, Stop("written") as stop:
        first_answer = pool.submit(first, headers=stop.headers)
        stop.wait()
        second_answer = pool.submit(second)
        wait_for(lambda: site.database.execute(WAITING) == [(1,)])
        stop.go_on()
        return first_answer.result(), second_answer.result()


def test_an_upload_keeps_what_was_being_written(site):
    patch = partial(site.client.request, "PATCH", URI, {"data": {"title": "new"}})
    attach = partial(site.client.attach, URI, b"second")

    answers = one_after_the_other(site, patch, attach)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert site.client.record(URI)["title"] == "new"
    site.assert_shows(URI, b"second")
    site.assert_consistent()


def test_an_upload_to_a_version_that_was_being_replaced(site):
    etag = site.client.request("GET", URI).headers["ETag"]
    quick = partial(site.client.attach, URI, b"quick")
    outdated = partial(site.client.attach, URI, b"outdated", headers={"If-Match": etag})

    answers = one_after_the_other(site, quick, outdated)

    assert [answer.status_code for answer in answers] == [200, 412]
    site.assert_shows(URI, b"quick")
    site.assert_consistent()


def test_of_two_uploads_the_second_stays(site):
    first, second = (partial(site.client.attach, URI, each) for each in (b"second", b"third"))

    answers = one_after_the_other(site, first, second)

    assert [answer.status_code for answer in answers] == [200, 200]
    site.assert_shows(URI, b"third")
    site.assert_consistent()


parents = pytest.mark.parametrize("parent", ["buckets/b/collections/c", "buckets/b"])


@parents
def test_an_upload_to_where_all_was_being_deleted(site, parent):
    delete = partial(site.client.request, "DELETE", parent)
    attach = partial(site.client.attach, URI, b"second")

    answers = one_after_the_other(site, delete, attach)

    assert [answer.status_code for answer in answers] == [200, 404]
    site.assert_consistent()


@parents
def test_all_is_deleted_where_a_file_was_being_uploaded(site, parent):
    new = uri_of("c", "new")
    attach = partial(site.client.attach, new, b"second")
    delete = partial(site.client.request, "DELETE", parent)

    answers = one_after_the_other(site, attach, delete)

    assert [answer.status_code for answer in answers] == [201, 200]
    assert site.files.stored() == {}
    site.assert_consistent()


def copy_of_the_record(site: Site) -> Request:
    """Copies it to where there is another one."""
    attachment = site.client.record(URI)["attachment"]
    return partial(site.client.request, "PUT", COPY, {"data": {"attachment": attachment}})


ends = pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("DELETE", URI),
        ("DELETE", f"{URI}/attachment"),
        ("DELETE", "buckets/b/collections/c/records"),
        ("DELETE", "buckets/b/collections/c"),
    ],
)


@ends
def test_who_copies_a_record_whose_file_was_about_to_go_is_told(site, method, uri):
    answers = one_after_the_other(
        site, partial(site.client.request, method, uri), copy_of_the_record(site)
    )

    assert answers[0].ok
    assert answers[1].status_code == 409
    assert site.client.request("GET", COPY).status_code == 404
    assert site.files.stored() == {}
    site.assert_consistent()


@ends
def test_a_file_stays_for_who_was_copying_its_record(site, method, uri):
    answers = one_after_the_other(
        site, copy_of_the_record(site), partial(site.client.request, method, uri)
    )

    assert answers[0].status_code == 201
    assert answers[1].ok
    site.assert_shows(COPY, FIRST)
    site.assert_consistent()

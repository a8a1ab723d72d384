"""What others do while an upload is on its way to a live server.

More of it, with the application in the tests' own process, is in
``tests/views/test_meanwhile.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.live.client import KIB, Upload, at_once, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop

URI = uri_of("c")
SLOW = b"slow" * (128 * KIB)
# The server hands the first bytes on once it has these.
SENT = 384 * KIB
# Less than what a database pool waits for a connection.
SOON = 15.0


@pytest.fixture
def begin(site: Site) -> Iterator[Callable[[str], Upload]]:
    """``begin(uri)`` begins an upload, and returns once the file storage gets its first bytes."""
    site.client.create_collections("c")
    with ExitStack() as stack:

        def begin(uri: str = URI) -> Upload:
            stop = stack.enter_context(Stop("receiving"))
            upload = site.client.begin(uri, SLOW, SENT, headers=stop.headers)
            stack.callback(upload.close)
            stop.wait().go_on()
            return upload

        yield begin


def test_an_attribute_that_changes_meanwhile_is_kept(site, begin):
    site.client.attach(URI, b"first", title="old")

    upload = begin()
    patched = site.client.request("PATCH", URI, {"data": {"title": "new"}}, timeout=SOON)

    assert patched.status_code == 200
    assert upload.finish() == 200
    assert site.client.record(URI)["title"] == "new"
    site.assert_shows(URI, SLOW)
    site.assert_consistent()


def test_of_a_slow_and_a_quick_replacement_one_file_remains(site, begin):
    site.client.attach(URI, b"first")

    upload = begin()
    assert site.client.attach(URI, b"quick").status_code == 200
    site.assert_shows(URI, b"quick")

    assert upload.finish() == 200
    site.assert_shows(URI, SLOW)
    site.assert_consistent()


def test_who_reads_the_empty_collection_is_answered_at_once(site, begin):
    upload = begin()

    answer = site.client.request("GET", "buckets/b/collections/c/records", timeout=SOON)

    assert answer.json()["data"] == []
    assert upload.finish() == 201


@pytest.mark.parametrize("site", ["local_site"], indirect=True)
def test_slow_uploads_do_not_use_up_the_database_pool(site, begin):
    """One of the two workers has ten of them, and five connections."""
    collections = [f"c{number}" for number in range(20)]
    site.client.create_collections(*collections)
    uploads = [begin(uri_of(collection)) for collection in collections]

    def is_answered() -> int:
        answer = site.client.request("GET", "buckets/b/collections", timeout=SOON)
        return answer.status_code

    assert set(at_once(*[is_answered] * 8)) == {200}
    assert set(at_once(*(upload.finish for upload in uploads))) == {201}
    site.assert_consistent()

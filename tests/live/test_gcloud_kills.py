"""All processes killed (SIGKILL) at every request that a large file takes, plain or resumable, on
its way to a name in Google Cloud Storage.

Small files, and the other steps of a request, are in ``test_kills.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import requests

from tests.live.test_gcloud_faults import chunk, finish
from tests.support.live import tus
from tests.support.live.client import KIB, SECONDS, uri_of
from tests.support.live.faulty import FIRST, LARGE
from tests.support.live.site import Site
from tests.support.live.waiting import wait_for

PIECE = 100 * KIB
# The requests at which an upload is killed, and whether Google does what it is asked for.
STEPS = [
    ("start", True),
    (chunk, False),
    (finish, False),
    (finish, True),
    ("compose", False),
    ("compose", True),
    ("delete", False),
]


class Stall:
    """A request that is not answered while the server lives, done or not."""

    def __init__(self, done: bool) -> None:
        self._done = done
        self._reached = threading.Event()
        self._over = threading.Event()

    def __call__(self, exchange) -> None:
        if self._done:
            exchange.gcs.answer_to(exchange)
        self._reached.set()
        self._over.wait(SECONDS)
        exchange.drop()

    def wait(self) -> None:
        assert self._reached.wait(SECONDS)

    def end(self) -> None:
        self._over.set()


@pytest.fixture
def plain(gcs_site: Site) -> list[str]:
    """Records whose file is to be replaced."""
    return make_records(gcs_site, "plain")


@pytest.fixture
def resumable(gcs_site: Site) -> list[str]:
    """Records to which resumable uploads are sent."""
    return make_records(gcs_site, "resumable")


def make_records(site: Site, kind: str) -> list[str]:
    """One for each step: each has a file, and a collection of its own."""
    collections = [f"{kind}-{number}" for number in range(len(STEPS))]
    site.client.create_collections(*collections, bucket="named")
    uris = [uri_of(collection, bucket="named") for collection in collections]
    for uri in uris:
        site.client.attach(uri, FIRST).raise_for_status()
    return uris


def test_killed_at_every_request(gcs_site, gcs, plain, resumable):
    site, client = gcs_site, gcs_site.client
    uploads = [tus.Upload(tus.create(client, uri, len(LARGE))) for uri in resumable]
    for upload in uploads:
        assert upload.patch(client, 0, LARGE[:PIECE]).status_code == 204
    sends = [lambda uri=uri: client.attach(uri, LARGE) for uri in plain]
    sends += [lambda each=each: each.patch(client, PIECE, LARGE[PIECE:]) for each in uploads]

    kill(site, gcs, sends)

    for uri in plain:
        site.assert_shows(uri, FIRST)
    for uri, upload in zip(resumable, uploads, strict=True):
        wait_for(lambda upload=upload: resume(site, upload))
        site.assert_shows(uri, LARGE)
    site.assert_consistent(site.leftovers())
    # Of a kept name without a row, the command does not know whose it is.
    site.gc("--foreign=file*.txt")
    # Google forgets what is left.
    site.assert_consistent(site.files.unfinished())


def kill(site: Site, gcs, sends: list[Callable[[], requests.Response]]) -> None:
    """Kill the server when each request to it has come to its step."""
    with ExitStack() as stack, ThreadPoolExecutor(len(sends)) as pool:
        for send, (operation, done) in zip(sends, STEPS * 2, strict=True):
            stall = Stall(done)
            stack.callback(stall.end)
            gcs.fail(operation, stall, times=1)
            pool.submit(unanswered, send)
            stall.wait()
        site.kill()
        stack.close()


def unanswered(send: Callable[[], requests.Response]) -> None:
    with suppress(requests.ConnectionError):
        send()


def resume(site: Site, upload: tus.Upload) -> bool:
    """Send what is missing, unless the killed server still has the upload."""
    offset = upload.offset(site.client)
    answer = upload.patch(site.client, offset, LARGE[offset:])
    assert answer.status_code in (204, 423)
    return answer.status_code == 204

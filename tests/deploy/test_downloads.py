"""Downloads through nginx to two nodes: many at once, slow ones, and large ones."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks.measure import peak
from tests.deploy.conftest import MIB, Body, attachment

on_the_disk = pytest.mark.parametrize("site", ["disk"], indirect=True)
PREFLIGHT = {"Origin": "https://example.org", "Access-Control-Request-Method": "GET"}
IMAGE = attachment("image", "drafts")


@pytest.fixture(scope="module", autouse=True)
def image(site) -> bytes:
    """What the record at ``IMAGE`` has: private."""
    site.attach(b"an image", "image.png", "image", "drafts")
    return b"an image"


def test_a_page_with_30_images_gets_them_all(site, image):
    start = threading.Barrier(30)

    def get(number: int) -> bytes:
        start.wait(timeout=30)
        return site.request("GET", IMAGE).content

    with ThreadPoolExecutor(30) as pool:
        images = list(pool.map(get, range(30)))

    assert images == [image] * 30


def test_a_request_without_a_body_is_no_upload(site, image):
    with ExitStack() as stack:
        for number in range(6):
            stack.enter_context(site.start_upload(2 * MIB, f"beside-{number}"))
        answers = [
            site.request("GET", IMAGE),
            site.request("HEAD", IMAGE),
            requests.options(f"{site.url}/v1/{IMAGE}", headers=PREFLIGHT, timeout=30),
            site.request("POST", f"{IMAGE}/link"),
        ]
        # It would hold a thread for as long as its body comes.
        with_body = site.request("GET", IMAGE, data=b"x")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 201]
    assert with_body.status_code == 503


@pytest.fixture(scope="module")
def large(site) -> Iterator[tuple[str, str]]:
    """The location of a public file of 200 MiB, and the path of its record's endpoint."""
    answer = site.upload(Body(200), "large-download")
    answer.raise_for_status()
    yield answer.json()["location"], f"{site.url}/v1/{attachment('large-download')}"
    site.request("DELETE", attachment("large-download"))


@on_the_disk
def test_slow_readers_hold_no_thread(site, large):
    credentials = b64encode(":".join(site.auth).encode()).decode()
    path = urlsplit(large[1]).path
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n"
    with ExitStack() as stack:
        # More than both nodes have threads.
        for _ in range(40):
            reader = socket.create_connection(("127.0.0.1", site.installation.port), timeout=30)
            stack.enter_context(reader)
            reader.sendall(request.encode())
            assert reader.recv(12) == b"HTTP/1.1 200"
        answer = site.request("GET", "buckets/b/collections/c")

    assert answer.status_code == 200


@on_the_disk
def test_a_large_file_takes_as_long_as_without_kinto(site, large):
    times: dict[str, list[float]] = {url: [] for url in large}
    nodes = [site.installation.node(port) for port in site.installation.nodes]
    processes = [pid for node in nodes for pid in node.pids()]
    for pid in processes:
        # https://www.kernel.org/doc/html/latest/filesystems/proc.html
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = [peak(pid) for pid in processes]
    buffer = bytearray(MIB)
    for _ in range(4):
        for url in large:
            started = time.monotonic()
            with requests.get(url, auth=site.auth, stream=True, timeout=60) as answer:
                received = 0
                while count := answer.raw.readinto(buffer):
                    received += count
            times[url].append(time.monotonic() - started)
            assert received == 200 * MIB

    by_nginx, by_kinto = (min(times[url]) for url in large)
    # On an idle machine it is less than 1.1 times.
    assert by_kinto < 1.5 * by_nginx + 0.1
    grown = [peak(pid) - was for pid, was in zip(processes, before, strict=True)]
    assert max(grown) < 8 * MIB
    assert "buffered to a temporary file" not in site.installation.nginx_log

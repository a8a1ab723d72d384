"""Downloads through nginx to two nodes: many at once, slow ones, and large ones."""

from __future__ import annotations

import socket
import threading
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

# MiB: more than what is on its way in buffers.
SIZE = 100
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
def large(site) -> Iterator[str]:
    """The endpoint of a record with a private file of ``SIZE`` MiB."""
    path = attachment("large", "drafts")
    site.upload(Body(SIZE), "large", collection="drafts").raise_for_status()
    yield f"{site.url}/v1/{path}"
    site.request("DELETE", path).raise_for_status()


@on_the_disk
def test_slow_readers_hold_no_thread(site, large):
    credentials = b64encode(":".join(site.auth).encode()).decode()
    path = urlsplit(large).path
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
def test_the_bytes_of_a_large_file_do_not_pass_through_kinto(site, large):
    nodes = [site.installation.node(port) for port in site.installation.nodes]
    processes = [pid for node in nodes for pid in node.pids()]
    for pid in processes:
        # https://www.kernel.org/doc/html/latest/filesystems/proc.html
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    memory, read = [peak(pid) for pid in processes], [_read(pid) for pid in processes]
    buffer, received = bytearray(MIB), 0
    with requests.get(large, auth=site.auth, stream=True, timeout=60) as answer:
        while count := answer.raw.readinto(buffer):
            received += count

    assert received == SIZE * MIB
    assert max(peak(pid) - was for pid, was in zip(processes, memory, strict=True)) < 8 * MIB
    assert sum(_read(pid) - was for pid, was in zip(processes, read, strict=True)) < MIB
    assert "buffered to a temporary file" not in site.installation.nginx_log


def _read(pid: int) -> int:
    """How many bytes a process has read, of whatever."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["rchar"])

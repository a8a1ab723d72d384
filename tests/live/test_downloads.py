"""Files that live servers send: to slow readers, to many at once, to those who leave; and large
files."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from typing_extensions import Self

from tests.support.inventory import Bucket
from tests.support.live.answers import check_that_storage_is_unavailable
from tests.support.live.client import MIB, Client, uri_of
from tests.support.live.proxy import S3Proxy, breaks_off, fails_inside
from tests.support.live.site import Site
from tests.support.live.verifier import LocalFiles
from tests.support.live.waiting import wait_for
from tests.support.servers.http import Exchange
from tests.support.servers.kinto import LiveKinto

URI = uri_of("c")
CONTENT = b"0123456789abcdef" * (16 * MIB // 16)
# What is on its way to a reader who does not read.
LITTLE = 64 * 1024
SOON = 15.0
AUTHORIZATION = "Basic " + base64.b64encode(b"alice:secret").decode()


class Reader:
    """Asks for the file, and reads as much of it as it is told to."""

    def __init__(self, url: str, uri: str = URI) -> None:
        address = urlsplit(url)
        self._socket = socket.socket()
        # Else the kernel takes megabytes for it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
        self._socket.settimeout(60)
        self._socket.connect((address.hostname, address.port))
        self._socket.sendall(
            f"GET {address.path}{uri}/attachment HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: {AUTHORIZATION}\r\nConnection: close\r\n\r\n".encode()
        )
        self.received = self._socket.recv(1000)

    def rest(self) -> bytes:
        """Read on to the end; return the body."""
        while chunk := self._socket.recv(MIB):
            self.received += chunk
        return self.received.partition(b"\r\n\r\n")[2]

    def leave(self) -> None:
        """Vanish, as a process or a machine that is switched off."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()


@pytest.fixture
def attached(site: Site) -> Site:
    site.client.create_collections("c")
    site.client.attach(URI, CONTENT).raise_for_status()
    return site


@pytest.fixture
def slow(attached: Site) -> Iterator[list[Reader]]:
    """More readers than the two workers have connections to the database."""
    with ExitStack() as stack:
        url = attached.server.url
        readers = [stack.enter_context(Reader(url)) for _ in range(24)]
        for reader in readers:
            assert reader.received.startswith(b"HTTP/1.1 200")
        yield readers


def busy_connections(site: Site) -> int:
    """How many connections are in a transaction."""
    question = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
    """
    ((count,),) = site.database.execute(question)
    return int(count)


def test_slow_readers_hold_no_connection_and_no_lock(attached, slow):
    assert busy_connections(attached) == 0

    # As quick as ever: another file, and the record goes.
    assert attached.client.record(URI)
    answer = attached.client.attach(URI, b"second")
    assert answer.status_code == 200
    assert attached.client.request("DELETE", "buckets/b", timeout=SOON).status_code == 200
    attached.assert_consistent()


@pytest.mark.parametrize("site", ["local_site"], indirect=True)
def test_a_slow_reader_of_a_file_that_is_deleted_gets_all_of_it(attached, slow):
    attached.client.attach(URI, b"second").raise_for_status()

    assert slow[0].rest() == CONTENT


def test_a_reader_who_leaves_leaves_nothing_open(attached, slow):
    for reader in slow:
        reader.leave()

    wait_for(lambda: open_files(attached) == [])
    assert attached.client.request("GET", f"{URI}/attachment").content == CONTENT


def open_files(site: Site) -> list[str]:
    """The stored files, and the connections to S3 in use, that the servers have open."""
    if not isinstance(site.files, LocalFiles):
        return []
    found = []
    for pid in site.server.pids():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith(str(site.files.folder)):
                found.append(target)
    return found


# A storage that fails


def cuts_the_answer(exchange: Exchange) -> None:
    """The connection breaks half way through the answer's body."""
    assert isinstance(exchange.owner, S3Proxy)
    status, headers, body = exchange.owner.forward(exchange)
    exchange.start(status, {**headers, "Content-Length": str(len(body))})
    exchange.wfile.write(body[: len(body) // 2])
    exchange.wfile.flush()
    exchange.drop()


@pytest.mark.parametrize("site", ["s3_site"], indirect=True)
@pytest.mark.parametrize("operation", ["head", "get"])
@pytest.mark.parametrize("fault", [fails_inside, breaks_off])
def test_an_s3_that_fails_is_a_503(attached, s3_proxy, operation, fault):
    s3_proxy.fail(operation, fault)

    check_that_storage_is_unavailable(attached.client.request("GET", f"{URI}/attachment"))

    s3_proxy.reset()
    assert attached.client.request("GET", f"{URI}/attachment").content == CONTENT


@pytest.mark.parametrize("site", ["s3_site"], indirect=True)
def test_an_s3_that_fails_half_way_does_not_look_like_the_end_of_the_file(attached, s3_proxy):
    s3_proxy.fail("get", cuts_the_answer)

    with Reader(attached.server.url) as reader, contextlib.suppress(ConnectionError):
        reader.rest()

    body = reader.received.partition(b"\r\n\r\n")[2]
    assert f"Content-Length: {len(CONTENT)}".encode() in reader.received
    assert 0 < len(body) < len(CONTENT)
    assert CONTENT.startswith(body)


# Memory

in_memory = pytest.mark.parametrize("backend", ["memory"])


def length_of_download(kinto: LiveKinto, uri: str) -> int:
    """Download the file of a record, in constant memory; return how many bytes came."""
    with requests.get(
        f"{kinto.url}{uri}/attachment", auth=("alice", "secret"), stream=True, timeout=60
    ) as answer:
        answer.raise_for_status()
        return sum(map(len, answer.iter_content(MIB)))


def growth_of_memory(kinto: LiveKinto, uri: str, size: int) -> int:
    """By how many bytes a server has grown that has sent a file of ``size`` bytes."""
    kinto.reset_rss()
    idle = kinto.rss()
    assert length_of_download(kinto, uri) == size
    return kinto.rss() - idle


@in_memory
@pytest.mark.parametrize(
    ("server", "limit"),
    # Waitress has a buffer of its own: outbuf_high_watermark, 16 MiB, and copies of it.
    [("gunicorn", 8 * MIB), ("waitress", 64 * MIB)],
)
@pytest.mark.parametrize("bucket", ["b", "default"])
def test_memory_does_not_grow_with_a_file_on_the_local_disk(
    live_kinto, files, server, limit, bucket
):
    kinto, uri = live_kinto(server), uri_of("c", bucket=bucket)
    client = Client(kinto.url)
    client.create_collections("c", bucket=bucket)
    client.attach(uri, CONTENT).raise_for_status()
    assert length_of_download(kinto, uri) == len(CONTENT)
    (stored,) = (path for path in files.iterdir() if path.is_file())
    # Sparse: it takes no room.
    os.truncate(stored, 256 * MIB)

    assert growth_of_memory(kinto, uri, 256 * MIB) < limit


@in_memory
def test_slow_readers_of_a_file_on_the_local_disk_leave_waitress_its_threads(live_kinto, files):
    url = live_kinto("waitress").url
    client = Client(url)
    client.create_collections("c")
    client.attach(URI, CONTENT).raise_for_status()
    (stored,) = (path for path in files.iterdir() if path.is_file())
    os.truncate(stored, 64 * MIB)

    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Reader(url))
        assert client.request("GET", URI, timeout=SOON).status_code == 200


@in_memory
def test_memory_does_not_grow_with_a_file_on_s3(live_kinto, seaweedfs):
    kinto = live_kinto("gunicorn", attachment=Bucket(seaweedfs).settings)
    client = Client(kinto.url)
    client.create_collections("c")
    client.attach(URI, CONTENT).raise_for_status()
    assert length_of_download(kinto, URI) == len(CONTENT)
    (key,) = seaweedfs.keys()
    seaweedfs.admin.put_object(Bucket=seaweedfs.bucket, Key=key, Body=bytes(100 * MIB))

    assert growth_of_memory(kinto, URI, 100 * MIB) < 8 * MIB

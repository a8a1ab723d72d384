"""Uploads to a running server: streaming, memory, and clients that vanish."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import platform
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.forms import CONTENT_TYPE, file_part, form

MIB = 1024 * 1024
AUTHORIZATION = "Basic " + base64.b64encode(b"alice:secret").decode()
HEADERS = {"Authorization": AUTHORIZATION, "Content-Type": CONTENT_TYPE}
RECORD = "buckets/{bucket}/collections/c/records/r"

in_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)


class Client:
    """A client of a live server."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.address = urlsplit(server.url)

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.address.netloc, timeout=120)
        try:
            connection.request(
                method,
                f"/v1/{path}",
                body,
                {**HEADERS, **headers},
                encode_chunked="Transfer-Encoding" in headers,
            )
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return response.status, json.loads(content) if content else {}

    def create_collection(self) -> None:
        headers = {"Content-Type": "application/json"}
        assert self.request("PUT", "buckets/b", "{}", **headers)[0] == 201
        assert self.request("PUT", "buckets/b/collections/c", "{}", **headers)[0] == 201

    def upload(self, size: int, bucket: str = "b") -> tuple[int, dict[str, Any]]:
        """Upload ``size`` MiB, made on the way."""
        head, tail = _around()
        length = len(head) + size * MIB + len(tail)
        return self.request(
            "POST",
            RECORD.format(bucket=bucket) + "/attachment",
            _body(head, size, tail),
            **{"Content-Length": str(length)},
        )

    def socket(self) -> socket.socket:
        return socket.create_connection((self.address.hostname, self.address.port), timeout=30)


def _around() -> tuple[bytes, bytes]:
    whole = form([file_part(b"@@@")])
    head, _, tail = whole.partition(b"@@@")
    return head, tail


def _block(number: int) -> bytes:
    return number.to_bytes(8, "big") * (MIB // 8)


def _body(head: bytes, size: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for number in range(size):
        yield _block(number)
    yield tail


def _sha256(size: int) -> str:
    digest = hashlib.sha256()
    for number in range(size):
        digest.update(_block(number))
    return digest.hexdigest()


@in_memory
@pytest.mark.parametrize("server", ["waitress", "gunicorn"])
@pytest.mark.parametrize("bucket", ["b", "default"])
def test_memory_does_not_grow_with_a_file_on_the_local_disk(live_kinto, server, bucket, files):
    client = Client(live_kinto(server))
    client.create_collection()
    client.upload(1, bucket)
    client.server.reset_rss()
    idle, written = client.server.rss(), client.server.written()

    status, answer = client.upload(100, bucket)

    assert status == 200
    assert answer["size"] == 100 * MIB
    assert answer["hash"] == _sha256(100)
    (stored,) = (path for path in files.iterdir() if path.is_file())
    assert stored.stat().st_size == 100 * MIB
    assert client.server.rss() - idle < 16 * MIB
    # Waitress spools a body before it hands it on.
    times = 2.05 if server == "waitress" else 1.05
    assert client.server.written() - written < times * 100 * MIB


@in_memory
@pytest.mark.parametrize("bucket", ["b", "default"])
def test_memory_does_not_grow_with_a_file_on_s3(live_kinto, seaweedfs, bucket):
    client = Client(
        live_kinto(
            "gunicorn",
            attachment={
                "base_path": None,
                "aws.bucket": seaweedfs.bucket,
                "aws.endpoint_url": seaweedfs.endpoint_url,
                "aws.access_key": seaweedfs.access_key,
                "aws.secret_key": seaweedfs.secret_key,
                "aws.region": "us-east-1",
                "aws.use_path_style": "true",
            },
        )
    )
    client.create_collection()
    client.upload(11, bucket)
    client.server.reset_rss()
    idle = client.server.rss()

    status, answer = client.upload(100, bucket)

    assert status == 200
    assert answer["hash"] == _sha256(100)
    name = answer["location"].removeprefix("https://files.example.org/")
    stored = seaweedfs.client().get_object(Bucket=seaweedfs.bucket, Key=name)
    assert stored["ContentLength"] == 100 * MIB
    assert client.server.rss() - idle < 16 * MIB


@in_memory
def test_nothing_of_an_upload_stays_in_memory_or_open(live_kinto):
    client = Client(live_kinto("waitress"))
    client.create_collection()
    client.upload(20)
    client.server.reset_rss()
    idle = client.server.rss()

    for _ in range(10):
        client.upload(20)

    assert client.server.rss() - idle < 16 * MIB
    # Waitress closes its own once it has sent the answer.
    _wait_for(lambda: _open_files(client.server.pid) == [])


@in_memory
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_a_chunk_has_the_memory_of_the_one_before(live_kinto):
    client = Client(live_kinto("gunicorn"))
    client.create_collection()
    client.upload(20)
    before = _page_faults(client.server)

    client.upload(100)

    pages = 100 * MIB // os.sysconf("SC_PAGE_SIZE")
    # Without it there are three for each page.
    assert _page_faults(client.server) - before < pages / 4


def _page_faults(server: Any) -> int:
    """How many pages of memory the processes have taken, new ones or again."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in server.pids()]
    return sum(int(each.split()[7]) for each in fields)


def _open_files(pid: int) -> list[str]:
    """The files of uploads that a process has open: unlinked ones, and parts."""
    targets = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(str(path.readlink()))
    return [target for target in targets if "deleted" in target or ".part" in target]


def _start_of_upload(client: Client, size: int = 10 * MIB) -> bytes:
    head, tail = _around()
    length = len(head) + size + len(tail)
    path = f"/v1/{RECORD.format(bucket='b')}/attachment"
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {client.address.netloc}",
        f"Authorization: {AUTHORIZATION}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head


def _wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["reset", "half-close", "close"])
def test_a_client_that_vanishes_leaves_nothing(live_kinto, files, how):
    client = Client(live_kinto("gunicorn"))
    client.create_collection()
    client.upload(1)
    before = set(files.iterdir())
    name = max(before, key=lambda path: path.stat().st_size).name

    with client.socket() as connection:
        connection.sendall(_start_of_upload(client) + b"x" * MIB)
        _wait_for(lambda: len(list(files.iterdir())) == len(before) + 1)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif how == "half-close":
            connection.shutdown(socket.SHUT_WR)
            assert b" 400 " in connection.recv(4096).split(b"\r\n")[0] + b" "

    _wait_for(lambda: set(files.iterdir()) == before)
    status, record = client.request("GET", RECORD.format(bucket="b"))
    assert status == 200
    assert record["data"]["attachment"]["size"] == MIB
    assert name in record["data"]["attachment"]["location"]


@in_memory
def test_a_stranger_is_refused_before_the_body_has_come(live_kinto):
    client = Client(live_kinto("gunicorn"))
    client.create_collection()
    start = _start_of_upload(client).replace(AUTHORIZATION.encode(), b"Basic Ym9iOnNlY3JldA==")

    with client.socket() as connection:
        connection.sendall(start)
        assert b" 403 " in connection.recv(4096).split(b"\r\n")[0]


@in_memory
def test_a_body_in_chunks_of_unknown_length(live_kinto):
    client = Client(live_kinto("gunicorn"))
    client.create_collection()
    head, tail = _around()

    # http.client sends an iterator in chunks where no length is given.
    status, answer = client.request(
        "POST",
        RECORD.format(bucket="b") + "/attachment",
        _body(head, 3, tail),
        **{"Transfer-Encoding": "chunked"},
    )

    assert (status, answer["size"]) == (201, 3 * MIB)
    assert answer["hash"] == _sha256(3)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_uploads_in_flight_hold_no_database_connection(live_kinto):
    pool = {"kinto.storage_pool_size": "1", "kinto.storage_max_overflow": "0"}
    pool |= {name.replace("storage", "permission"): value for name, value in pool.items()}
    client = Client(live_kinto("gunicorn", worker_class="gthread", settings=pool))
    client.create_collection()

    with client.socket() as one, client.socket() as two:
        for connection in (one, two):
            connection.sendall(_start_of_upload(client, MIB) + b"x" * 1000)
        time.sleep(0.5)

        assert client.request("GET", "buckets/b/collections/c/records")[0] == 200

"""Resumable uploads to running servers by tuspy. Killed servers and several nodes are in
``clients/test_tus_interrupted.py``."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest
import requests
from tusclient.client import TusClient

from tests.support.live import tus
from tests.support.live.client import Client
from tests.support.servers.gcs import GcsServer
from tests.support.servers.s3 import SeaweedServer

MIB = 1024 * 1024
AUTHORIZATION = "Basic " + base64.b64encode(b"alice:secret").decode()
RECORD = "buckets/b/collections/c/records/r"

in_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)
in_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 32 MiB and a bit."""
    path = tmp_path / "source.bin"
    path.write_bytes(random.Random(5).randbytes(32 * MIB + 5))  # noqa: S311
    return path


@pytest.fixture
def stream(source: Path) -> Iterator[BinaryIO]:
    """The same, open: tuspy never closes what it opens itself."""
    with source.open("rb") as stream:
        yield stream


def on_s3(server: SeaweedServer) -> dict[str, str | None]:
    return {
        "base_path": None,
        "aws.bucket": server.bucket,
        "aws.endpoint_url": server.endpoint_url,
        "aws.access_key": server.access_key,
        "aws.secret_key": server.secret_key,
        "aws.region": server.region,
        "aws.use_path_style": "true",
    }


def settings_on(server: GcsServer) -> dict[str, str | None]:
    return {"kinto.attachment.base_path": None, **server.settings}


def create_collection(server) -> None:
    for path in ("buckets/b", "buckets/b/collections/c"):
        headers = {"Authorization": AUTHORIZATION}
        assert requests.put(server.url + path, json={}, headers=headers, timeout=60).ok


def client_of(server) -> TusClient:
    url = f"{server.url}{RECORD}/attachment"
    return TusClient(url, headers={"Authorization": AUTHORIZATION})


def attachment(server) -> dict:
    headers = {"Authorization": AUTHORIZATION}
    answer = requests.get(server.url + RECORD, headers=headers, timeout=60)
    return answer.json()["data"]["attachment"]


def check_attachment(server, source: Path) -> None:
    found = attachment(server)
    assert found["size"] == source.stat().st_size
    assert found["hash"] == hashlib.sha256(source.read_bytes()).hexdigest()


@in_memory
@pytest.mark.parametrize("server", ["waitress", "gunicorn"])
@pytest.mark.parametrize("with_checksums", [False, True])
def test_tuspy_with_files_on_the_local_disk(
    live_kinto, files, source, stream, server, with_checksums
):
    kinto = live_kinto(server)
    create_collection(kinto)

    client_of(kinto).uploader(
        file_stream=stream,
        chunk_size=5 * MIB,
        metadata={"filename": "source.bin"},
        upload_checksum=with_checksums,
    ).upload()

    check_attachment(kinto, source)
    assert attachment(kinto)["filename"] == "source.bin"
    assert len([path for path in files.iterdir() if path.is_file()]) == 1


@in_memory
def test_tuspy_without_metadata_and_files_on_s3(live_kinto, seaweedfs, source, stream):
    kinto = live_kinto("gunicorn", attachment=on_s3(seaweedfs))
    create_collection(kinto)

    client_of(kinto).uploader(file_stream=stream, chunk_size=5 * MIB).upload()

    check_attachment(kinto, source)
    assert attachment(kinto)["filename"] == "r"
    assert len(seaweedfs.keys()) == 1
    assert seaweedfs.uploads() == []


@in_postgresql
def test_two_nodes_that_take_turns_with_one_bucket_of_google_s(live_kinto, gcs, source):
    nodes = [live_kinto("gunicorn", settings=settings_on(gcs)) for _ in range(2)]
    create_collection(nodes[0])
    clients = [Client(node.url) for node in nodes]
    content = source.read_bytes()
    upload = tus.Upload(tus.create(clients[0], RECORD, len(content)))

    for number, offset in enumerate(range(0, len(content), 2 * MIB)):
        client = clients[number % 2]
        assert upload.offset(client) == offset
        chunk = content[offset : offset + 2 * MIB]
        assert upload.patch(client, offset, chunk).status_code == 204

    check_attachment(nodes[1], source)
    [name] = gcs.keys()
    assert gcs.objects()[name].content == content


@in_postgresql
def test_an_upload_under_way_holds_no_database_connection(live_kinto):
    pool = {"kinto.storage_pool_size": "1", "kinto.storage_max_overflow": "0"}
    pool |= {name.replace("storage", "permission"): value for name, value in pool.items()}
    kinto = live_kinto("gunicorn", worker_class="gthread", settings=pool)
    create_collection(kinto)
    uploads = []
    for _ in range(2):
        uploader = client_of(kinto).uploader(file_stream=_Zeros(MIB))
        uploads.append(uploader.create_url())

    sockets = [_start_of_patch(kinto, url, MIB) for url in uploads]
    try:
        time.sleep(0.5)
        headers = {"Authorization": AUTHORIZATION}
        answer = requests.get(f"{kinto.url}buckets/b", headers=headers, timeout=10)
        assert answer.status_code == 200
    finally:
        for connection in sockets:
            connection.close()


@in_memory
def test_what_arrived_of_a_client_that_vanishes_counts(live_kinto, source, stream):
    kinto = live_kinto("gunicorn")
    create_collection(kinto)
    uploader = client_of(kinto).uploader(file_stream=stream, chunk_size=8 * MIB)
    uploader.set_url(uploader.create_url())
    with _start_of_patch(kinto, uploader.url, source.stat().st_size) as connection:
        connection.sendall(source.read_bytes()[: 3 * MIB])

    deadline = time.monotonic() + 20
    while uploader.get_offset() < 2 * MIB:
        assert time.monotonic() < deadline, "it was not saved"
        time.sleep(0.05)

    uploader.offset = uploader.get_offset()
    uploader.retries, uploader.retry_delay = 10, 1
    uploader.upload()
    check_attachment(kinto, source)


@in_memory
@pytest.mark.parametrize("where", ["local", "s3"])
def test_memory_does_not_grow(live_kinto, request, where):
    seaweedfs = request.getfixturevalue("seaweedfs") if where == "s3" else None
    kinto = live_kinto("gunicorn", attachment=on_s3(seaweedfs) if seaweedfs else {})
    create_collection(kinto)
    _send_zeros(kinto, 11 * MIB)
    kinto.reset_rss()
    idle = kinto.rss()

    _send_zeros(kinto, 100 * MIB)

    assert attachment(kinto)["size"] == 100 * MIB
    assert kinto.rss() - idle < 16 * MIB


class _Zeros:
    """A file of so many zeros."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def seek(self, position: int, whence: int = os.SEEK_SET) -> None:
        self._position = position + (self._size if whence == os.SEEK_END else 0)

    def tell(self) -> int:
        return self._position


def _send_zeros(kinto, size: int) -> None:
    headers = {"Authorization": AUTHORIZATION, "Tus-Resumable": "1.0.0"}
    url = f"{kinto.url}{RECORD}/attachment"
    created = requests.post(url, headers={**headers, "Upload-Length": str(size)}, timeout=60)

    def body() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield bytes(MIB)

    sent = {
        **headers,
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size),
    }
    # Not with requests, which sends what it iterates over in chunks of its own.
    address = urlsplit(created.headers["Location"])
    connection = http.client.HTTPConnection(address.netloc, timeout=120)
    try:
        connection.request("PATCH", address.path, body(), sent)
        assert connection.getresponse().status == 204
    finally:
        connection.close()


def _start_of_patch(kinto, url: str, length: int) -> socket.socket:
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    connection = socket.create_connection((name, int(port)), timeout=30)
    lines = [
        f"PATCH /{path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {AUTHORIZATION}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
        f"Content-Length: {length}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection

"""A large file by each tus client and to each storage: in one go, to a server that is killed again
and again, and to two nodes that take turns.

Small, to be fast. ``TUS_MIB=500 pytest tests/clients/test_tus_interrupted.py`` sends as many MiB,
and kills the server more often.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from tests.clients.conftest import USER
from tests.clients.test_tus_js import TUS_JS_CLIENT
from tests.support.clients.downloads import NODE
from tests.support.clients.store import Store
from tests.support.live import leases
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.nginx import Nginx
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.clients

MIB = 1024 * 1024
IS_LARGE = "TUS_MIB" in os.environ
# Not a whole number of chunks.
SIZE = int(os.environ.get("TUS_MIB", "12")) * MIB + 5
CHUNK = 5 * MIB if IS_LARGE else MIB
KILLS = 5 if IS_LARGE else 2
# Before each chunk of a small file, or it would be there before anybody is killed.
PAUSE = 0 if IS_LARGE else 0.1
SECONDS = 1200

HEADERS = {"Authorization": "Basic " + base64.b64encode(":".join(USER).encode()).decode()}
COLLECTION = "buckets/b/collections/c"
RECORD = f"{COLLECTION}/records/r"

in_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)
in_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
to_each_storage = pytest.mark.parametrize("store", ["local", "seaweedfs"], indirect=True)
to_seaweedfs = pytest.mark.parametrize("store", ["seaweedfs"], indirect=True)

_NGINX = """\
log_format nodes '$request_method $upstream_addr';
upstream nodes {{
    {nodes}
}}
server {{
    listen 127.0.0.1:{port};
    access_log {log} nodes;
    client_max_body_size 0;
    location / {{
        proxy_pass http://nodes;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_set_header Host $http_host;
    }}
}}
"""


@pytest.fixture
def store(request: pytest.FixtureRequest, files: Path) -> Store:
    server = None if request.param == "local" else request.getfixturevalue(request.param)
    return Store(files, server)


@pytest.fixture
def start_kinto(live_kinto: Callable[..., LiveKinto], store: Store) -> Callable[..., LiveKinto]:
    """``start_kinto(port=None)``: a Kinto in gunicorn that has the files in ``store``."""
    settings = {"kinto.includes": leases.INCLUDES}
    return functools.partial(live_kinto, "gunicorn", attachment=store.settings, settings=settings)


@pytest.fixture
def kinto(start_kinto: Callable[..., LiveKinto]) -> LiveKinto:
    """A Kinto with the collection of the record."""
    server = start_kinto()
    for path in ("buckets/b", COLLECTION):
        assert requests.put(server.url + path, json={}, headers=HEADERS, timeout=60).ok
    return server


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """The file to upload."""
    path = tmp_path / "film.mp4"
    content = random.Random(24)  # noqa: S311
    with path.open("wb") as file:
        for begin in range(0, SIZE, MIB):
            file.write(content.randbytes(min(MIB, SIZE - begin)))
    yield path
    path.unlink()


@pytest.fixture(params=["tuspy", "tus-js-client"])
def send(request: pytest.FixtureRequest, source: Path, downloads: Any) -> Iterator[Any]:
    """``send(url_of_the_api)`` begins to send the file; returns a ``Future``."""
    if request.param == "tuspy":
        sender = _send_with_tuspy
    else:
        package = downloads.npm_with_dependencies("tus-js-client", TUS_JS_CLIENT)
        sender = functools.partial(_send_with_tus_js_client, package)
    with ThreadPoolExecutor(1) as executor:
        yield lambda api: executor.submit(sender, f"{api}{RECORD}/attachment", source)


def _send_with_tuspy(url: str, source: Path) -> None:
    deadline = time.monotonic() + SECONDS
    with source.open("rb") as stream:
        uploader = TusClient(url, headers=HEADERS).uploader(file_stream=stream, chunk_size=CHUNK)
        uploader.set_url(uploader.create_url())
        while uploader.offset < SIZE:
            assert time.monotonic() < deadline
            try:
                time.sleep(PAUSE)
                uploader.upload_chunk()
            except TusCommunicationError:
                # The server is down, or has not noticed yet that a lease of a killed one ended.
                time.sleep(0.1)
                with suppress(TusCommunicationError, requests.RequestException):
                    uploader.offset = uploader.get_offset()


def _send_with_tus_js_client(package: Path, url: str, source: Path) -> None:
    options = {
        "endpoint": url,
        "headers": HEADERS,
        "chunkSize": CHUNK,
        "retryDelays": [0] + [100] * 1200,
    }
    arguments = {
        "client": str(package),
        "path": str(source),
        "storage": str(source.with_name("uploads.json")),
        "pause": PAUSE * 1000,
        "options": options,
    }
    script = Path(__file__).parent / "tus_upload.js"
    command = [NODE, script, json.dumps(arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def check(api: str, store: Store, source: Path) -> None:
    """The record has the file, and nothing else is left of the upload."""
    answer = requests.get(api + RECORD, headers=HEADERS, timeout=60)
    attachment = answer.json()["data"]["attachment"]
    with source.open("rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert (attachment["size"], attachment["hash"]) == (SIZE, digest)
    # Not compared as a whole: pytest would print them.
    assert [hashlib.sha256(stored).hexdigest() for stored in store.files()] == [digest]


def rows(database: Any) -> list[bool]:
    """Whether it is done, for each upload that has a row."""
    return [
        done
        for (done,) in database.execute(
            "SELECT data->'done' FROM objects WHERE resource_name = 'attachments-uploads'"
        )
    ]


@in_memory
@to_each_storage
def test_a_file_is_sent_in_chunks(send, kinto, store, source):
    send(kinto.url).result()

    check(kinto.url, store, source)


@in_postgresql
@to_each_storage
def test_a_server_that_is_killed_again_and_again(
    send, start_kinto, kinto, store, source, kinto_database
):
    moments = random.Random(7)  # noqa: S311

    sending: Future[None] = send(kinto.url)
    while not rows(kinto_database):
        # Before that, there is an upload that nobody has been told of: it is left for gc.
        time.sleep(0.01)
    for _ in range(KILLS):
        time.sleep(moments.uniform(0.1, 2 if IS_LARGE else 0.5))
        assert not sending.done()
        kinto.kill()
        kinto = start_kinto(port=kinto.port)
    sending.result()

    check(kinto.url, store, source)
    # Who asks for the upload once more is told that it is done.
    assert rows(kinto_database) == [True]


@in_postgresql
@to_seaweedfs
def test_two_nodes_take_turns(send, start_kinto, kinto, store, source, kinto_database, tmp_path):
    nodes, port = [kinto, start_kinto()], free_port()
    site, log = tmp_path / "site.conf", tmp_path / "requests"
    servers = "".join(f"server 127.0.0.1:{node.port};" for node in nodes)
    site.write_text(_NGINX.format(nodes=servers, port=port, log=log))

    with Nginx(site, tmp_path / "nginx", port):
        send(f"http://127.0.0.1:{port}/v1/").result()

    chunks = [line.split()[1] for line in log.read_text().splitlines() if "PATCH" in line]
    assert len(chunks) == SIZE // CHUNK + 1
    assert all(node != before for before, node in zip(chunks, chunks[1:], strict=False))
    check(kinto.url, store, source)
    # Who asks for the upload once more is told that it is done.
    assert rows(kinto_database) == [True]

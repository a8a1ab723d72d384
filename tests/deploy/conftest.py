"""The set-up of deploy/, once with files on the disk, and once with files on S3."""

from __future__ import annotations

import http.client
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.deploy.installation import Installation
from tests.support.forms import CONTENT_TYPE, file_part, form
from tests.support.servers.postgresql import PostgreSQL

MIB = 1024 * 1024
HEAD, _, TAIL = form([file_part(b"@@@", "large.txt")]).partition(b"@@@")


class Site:
    """The site as a client sees it, through nginx."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.auth = ("admin", installation.password)

    @property
    def url(self) -> str:
        """Of the site, without a slash at the end."""
        return self.installation.url

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """A request of the admin's; ``path`` is below ``/v1/``."""
        arguments = {"auth": self.auth, **arguments}
        return requests.request(method, f"{self.url}/v1/{path}", timeout=60, **arguments)

    def upload(
        self,
        body: bytes | Body,
        record: str = "r",
        client: str = "127.0.0.1",
        collection: str = "c",
        **arguments: Any,
    ) -> requests.Response:
        """Attach a file to a record of the bucket ``b``. ``client`` is its address."""
        return self.request(
            "POST",
            attachment(record, collection),
            data=body,
            headers={"Content-Type": CONTENT_TYPE, "X-Test-Client": client},
            **arguments,
        )

    def attach(self, content: bytes, filename: str, record: str, collection: str = "c") -> str:
        """Attach a file, and return its location."""
        body = form([file_part(content, filename)])
        answer = self.upload(body, record, collection=collection)
        answer.raise_for_status()
        location: str = answer.json()["location"]
        return location

    def start_upload(
        self,
        size: int,
        record: str = "r",
        client: str = "127.0.0.1",
        first: int = MIB,
        collection: str = "c",
    ) -> socket.socket:
        """Send the start of an upload of ``size`` bytes: ``first``, and no more for now.
        ``client`` is its address."""
        connection = socket.create_connection(("127.0.0.1", self.installation.port), timeout=30)
        lines = [
            f"POST /v1/{attachment(record, collection)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.installation.port}",
            f"Authorization: Basic {b64encode(':'.join(self.auth).encode()).decode()}",
            "Origin: https://example.org",
            f"X-Test-Client: {client}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(HEAD) + size + len(TAIL)}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + HEAD + b"x" * first)
        return connection


class Body:
    """The form with a file of ``size`` MiB, made as it is sent (a file object to requests)."""

    def __init__(self, size: int) -> None:
        self._blocks = iter([HEAD, *(number.to_bytes(8, "big") for number in range(size)), TAIL])
        self._length = len(HEAD) + size * MIB + len(TAIL)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            yield block * (MIB // 8) if len(block) == 8 else block

    def read(self, size: int) -> bytes:
        """The next block, whatever the size."""
        return next(iter(self), b"")


def answer_on(connection: socket.socket) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of the answer that comes."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return response.status, response.headers, response.read()
    finally:
        response.close()


def attachment(record: str, collection: str = "c") -> str:
    """The endpoint of a record, below ``/v1/``."""
    return f"buckets/b/collections/{collection}/records/{record}/attachment"


@pytest.fixture(scope="package", params=["disk", "s3"])
def site(
    request: pytest.FixtureRequest,
    postgresql: PostgreSQL,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """It runs, and its admin has created the collections ``c`` and ``drafts`` in the bucket ``b``:
    the second one has private files."""
    database = f"deploy_{request.param}"
    root = tmp_path_factory.mktemp(database)
    url = postgresql.create_database(database)
    installation = Installation(root, url, request.param == "s3")
    try:
        installation.start()
        site = Site(installation)
        site.request("PUT", "buckets/b").raise_for_status()
        for name in ("c", "drafts"):
            site.request("PUT", f"buckets/b/collections/{name}").raise_for_status()
        yield site
    finally:
        installation.stop()
        postgresql.drop_database(database)

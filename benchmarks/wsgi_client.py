"""A client that sends a body piece by piece, and tells what became of it."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tests.support.forms import CONTENT_TYPE, file_part, form

BLOCK = b"x" * (256 * 1024)
# alice:secret
AUTHORIZATION = "Basic YWxpY2U6c2VjcmV0"


@dataclass(frozen=True)
class Answer:
    """What a client was told (``None``: the connection was lost), and how much it had sent."""

    status: int | None
    sent: int


class Client:
    """A client of the server on ``port``; every request has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)

    def create_collections(self) -> None:
        for path in ("buckets/b", "buckets/b/collections/c", "buckets/b/collections/small"):
            connection = http.client.HTTPConnection(*self.address, timeout=60)
            headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
            connection.request("PUT", f"/v1/{path}", "{}", headers)
            if connection.getresponse().status != 201:
                raise RuntimeError(f"{path} could not be created")
            connection.close()

    def upload(
        self,
        size: int,
        *,
        collection: str = "c",
        authorized: bool = True,
        chunked: bool = False,
        looks: bool = True,
    ) -> Answer:
        """Attach a file of ``size`` bytes. ``looks``: stop sending once an answer has come."""
        head, _, tail = form([file_part(b"@@@")]).partition(b"@@@")
        lines = [
            f"POST /v1/buckets/b/collections/{collection}/records/r/attachment HTTP/1.1",
            "Host: {}:{}".format(*self.address),
            f"Content-Type: {CONTENT_TYPE}",
            *([f"Authorization: {AUTHORIZATION}"] if authorized else []),
            "Transfer-Encoding: chunked"
            if chunked
            else f"Content-Length: {len(head) + size + len(tail)}",
        ]
        blocks = _body(head, size, tail)
        with socket.create_connection(self.address, timeout=600) as connection:
            sent = 0
            # A server that has closed the connection may have answered before.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall("\r\n".join([*lines, "", ""]).encode())
                for block in _chunks(blocks) if chunked else blocks:
                    if looks and select.select([connection], [], [], 0)[0]:
                        break
                    connection.sendall(block)
                    sent += len(block)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                response.read()
            except (OSError, http.client.HTTPException):
                return Answer(None, sent)
            finally:
                response.close()
            return Answer(response.status, sent)


def _body(head: bytes, size: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]
    yield tail


def _chunks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The transfer coding of RFC 9112, section 7.1."""
    for block in blocks:
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"

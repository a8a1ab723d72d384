"""HTTP: a request and its answer, the connections, and how they fail."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.gcs.requests import GcsRequest
from tests.support.servers.http import CHUNK, Exchange, Fault

if TYPE_CHECKING:
    from tests.support.servers.gcs.server import GcsServer

_JOIN_SECONDS = 10.0


class GcsExchange(Exchange):
    """One request: the ``Body`` of it, and where its answer goes.

    The body may come in chunks (RFC 9112, section 7.1).
    """

    disable_nagle_algorithm = True

    def do(self) -> None:
        self.asked = GcsRequest.of(self.command, self.path, cast(Mapping[str, str], self.headers))
        self.is_broken = False
        self.limit: int | None = None
        """After how many bytes of the body the line breaks."""
        self._is_chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self._chunks_left = self._is_chunked
        self.unread = int(self.headers.get("Content-Length", 0))
        (self.gcs.fault_for(self.asked) or self.gcs.serve)(self)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = do  # noqa: N815

    @property
    def gcs(self) -> GcsServer:
        return cast("GcsServer", self.owner)

    @property
    def length(self) -> int | None:
        return None if self._is_chunked else self.unread

    def read(self, size: int | None = None) -> bytes:
        pieces: list[bytes] = []
        missing = sys.maxsize if size is None else size
        while missing and (self.unread or self._next_chunk()):
            wanted = min(missing, self.unread)
            left = wanted if self.limit is None else self.limit - self.asked.received
            piece = self.rfile.read(min(wanted, left))
            pieces.append(piece)
            self.asked.received += len(piece)
            self.unread -= len(piece)
            missing -= len(piece)
            if len(piece) < wanted:
                self._break()
        return b"".join(pieces)

    def whole(self) -> bytes:
        data = self.read()
        if self.is_broken:
            raise ConnectionAbortedError
        return data

    def send(self, answer: Answer) -> None:
        """Send an answer, once the whole body has come."""
        while self.read(CHUNK):
            pass
        if self.is_broken:
            raise ConnectionAbortedError
        size = len(answer.body) if answer.size is None else answer.size
        length = {} if answer.status in (204, 304) else {"Content-Length": str(size)}
        self.start(answer.status, {**answer.headers, **length})
        if self.command != "HEAD" and length:
            for piece in answer.pieces or [answer.body]:
                self.wfile.write(piece)

    def _next_chunk(self) -> bool:
        if not self._chunks_left:
            return False
        line = self.rfile.readline().strip() or self.rfile.readline().strip()
        try:
            self.unread = int(line.split(b";")[0], 16)
        except ValueError:
            self._break()
            return False
        if not self.unread:
            self._chunks_left = False
            self.rfile.readline()
        return self._chunks_left

    def _break(self) -> None:
        self.is_broken, self._chunks_left, self.unread = True, False, 0


class LoopbackServer(ThreadingHTTPServer):
    """Closes its connections and waits for their threads when it ends."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        self._handlers: list[threading.Thread] = []
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._connections.add(request)
        self._handlers = [*filter(threading.Thread.is_alive, self._handlers), thread]
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Connections are broken here, by the clients and on purpose.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        self.disconnect()

    def disconnect(self) -> None:
        """Close every connection, and wait for its thread."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._handlers:
            thread.join(_JOIN_SECONDS)


def answers_as(error: GcsError) -> Fault:
    """The request is not served, but answered with an error of the JSON API."""

    def fault(exchange: Exchange) -> None:
        cast(GcsExchange, exchange).send(error.as_json())

    return fault


def loses_the_answer(exchange: Exchange) -> None:
    """The request is served, but the client does not get to know that."""
    cast(GcsExchange, exchange).gcs.answer_to(exchange)
    exchange.drop()


def breaks_the_line(after: int) -> Fault:
    """The line breaks when so many bytes of the body have come. Of a chunk, whole granules of
    them are kept."""

    def fault(exchange: Exchange) -> None:
        broken = cast(GcsExchange, exchange)
        broken.limit = after
        with contextlib.suppress(ConnectionAbortedError):
            broken.gcs.answer_to(broken)
        broken.drop()

    return fault

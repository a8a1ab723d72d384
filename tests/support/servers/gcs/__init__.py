"""Google Cloud Storage for the tests: a strict server in a thread of this process, on loopback.

It knows what the plugin and Google's own library ask for, in the JSON API, and of the XML API
what anonymous readers and V4 signed URLs ask for. Where the real service is known to differ from
what test servers do, it behaves like the real one: see ``Switches``, and the tests.

``python -m tests.support.servers.gcs --port N`` runs it alone.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kinto_attachment.attachments.site import MARKER
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.api import Api
from tests.support.servers.gcs.bucket import Bucket, Session, StoredObject, Switches
from tests.support.servers.gcs.credentials import ServiceAccount
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.gcs.requests import GcsRequest, operation_of
from tests.support.servers.http import Exchange, Fault, Server

__all__ = ["GcsError", "GcsRequest", "GcsServer", "answers_as", "loses_the_answer", "operation_of"]

_ALWAYS = 1000
_JOIN_SECONDS = 10.0
_DRAIN = 1024 * 1024


class GcsServer(Switches, Server):
    """Runs, and ``bucket`` exists, once the constructor returns.

    ``requests`` are those that arrived; ``account`` is the only service account.
    """

    bucket = "tests"
    project = "tests-project"

    def __init__(self, port: int = 0) -> None:
        Switches.__init__(self)
        self.directory = Path(tempfile.mkdtemp(prefix="test-gcs-"))
        self.account = ServiceAccount(self.project)
        self.credentials_file = self.directory / "credentials.json"
        self.buckets: dict[str, Bucket] = {}
        self.all_sessions: dict[str, Session] = {}
        self.requests: list[GcsRequest] = []  # type: ignore[assignment]
        self.lock = threading.Lock()
        self._faults: list[list[Any]] = []
        self._api = Api(self)
        self.create_bucket(self.bucket)
        self.start(port)
        self.account.write(self.credentials_file, f"{self.endpoint_url}/token")

    def start(self, port: int = 0) -> None:
        """Listen, after a ``stop()`` on the same port maybe; 0 is a free one."""
        handler = type("Handler", (_GcsExchange,), {"owner": self})
        self._server = _ThreadingServer(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Close every connection. What is stored stays."""
        super().stop()
        self._server.join()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create_bucket(self, name: str, *, uniform_access: bool = False) -> Bucket:
        """Add an empty bucket."""
        self.buckets[name] = Bucket(name, self, uniform_access)
        return self.buckets[name]

    def drop_bucket(self, name: str | None = None) -> None:
        """Remove a bucket with everything in it."""
        del self.buckets[name or self.bucket]

    def objects(self, bucket: str | None = None) -> dict[str, StoredObject]:
        """The live objects by their names."""
        stored = self.buckets[bucket or self.bucket]
        with stored.lock:
            return dict(sorted(stored.live.items()))

    def keys(self, bucket: str | None = None) -> list[str]:
        """The names of the live objects, without the marker of the site."""
        return [name for name in self.objects(bucket) if name != MARKER]

    def sessions(self) -> list[Session]:
        """The resumable uploads that are neither finished, nor cancelled, nor refused."""
        return [each for each in list(self.all_sessions.values()) if each.is_unfinished]

    def lose_sessions(self, status: int = 410) -> None:
        """Forget all unfinished sessions; they are answered with ``status`` (404 or 410)."""
        for session in self.sessions():
            session.refusal = GcsError(
                status, "notFound", "Gone" if status == 410 else "Not Found"
            )

    def expire_tokens(self) -> None:
        """Answer 401 to all access tokens issued so far."""
        self.account.tokens.clear()

    def empty(self) -> None:
        """Remove all objects and sessions of all buckets."""
        for bucket in self.buckets.values():
            with bucket.lock:
                bucket.clear()
        self.all_sessions.clear()

    def reset(self) -> None:
        """Forget everything: the objects, requests, faults, switches, and other buckets."""
        Switches.reset(self)
        self._faults.clear()
        self.requests.clear()
        self.buckets.clear()
        self.all_sessions.clear()
        self.create_bucket(self.bucket)

    def fail(
        self,
        operation: str | Callable[[GcsRequest], bool],
        fault: Fault,
        times: int = _ALWAYS,
        after: int = 0,
    ) -> None:
        """Let so many requests of an ``operation`` (see ``operation_of()``; ``*`` is any, a
        function chooses itself) end in ``fault``, after so many that do not."""
        self._faults.append([operation, fault, times, after])

    def heal(self) -> None:
        """Let no request fail any more."""
        self._faults.clear()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens on the port meanwhile."""
        port = self.port
        self.stop()
        try:
            yield
        finally:
            self.start(port)

    def serve(self, exchange: Exchange) -> None:
        assert isinstance(exchange, _GcsExchange)
        exchange.send(self.answer_to(exchange))

    def answer_to(self, exchange: Exchange) -> Answer:
        """Do what a request asks for, without sending the answer."""
        assert isinstance(exchange, _GcsExchange)
        return self._api.answer(exchange.request_, exchange)

    def fault_for(self, request: GcsRequest) -> Fault | None:
        """Remember a request, and choose what becomes of it."""
        with self.lock:
            self.requests.append(request)
            for entry in self._faults:
                operation, fault, times, after = entry
                if not (
                    operation(request)
                    if callable(operation)
                    else operation in ("*", request.operation)
                ):
                    continue
                if after:
                    entry[3] -= 1
                elif times:
                    entry[2] -= 1
                    chosen: Fault = fault
                    return chosen
            return None

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def answers_as(error: GcsError) -> Fault:
    """The request is not served, but answered with an error of the JSON API."""

    def fault(exchange: Exchange) -> None:
        assert isinstance(exchange, _GcsExchange)
        exchange.send(error.as_json())

    return fault


def loses_the_answer(exchange: Exchange) -> None:
    """The request is served, but the client does not get to know that."""
    assert isinstance(exchange.owner, GcsServer)
    exchange.owner.answer_to(exchange)
    exchange.drop()


class _GcsExchange(Exchange):
    """One request. Its body may come in chunks (RFC 9112, section 7.1)."""

    disable_nagle_algorithm = True
    is_broken = False

    def do(self) -> None:
        self.is_broken = False
        self._is_chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self._chunks_ended = not self._is_chunked
        self.unread = int(self.headers.get("Content-Length", 0))
        owner = self.owner
        assert isinstance(owner, GcsServer)
        self.request_ = GcsRequest.of(self.command, self.path, self.headers)
        (owner.fault_for(self.request_) or owner.serve)(self)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = do  # noqa: N815

    @property
    def length(self) -> int | None:
        return None if self._is_chunked else self.unread

    def read(self, size: int | None = None) -> bytes:
        pieces, missing = [], size
        while missing is None or missing:
            if not self.unread:
                self._next_chunk()
            if not self.unread:
                break
            wanted = self.unread if missing is None else min(missing, self.unread)
            piece = self.rfile.read(wanted)
            pieces.append(piece)
            self.request_.received += len(piece)
            self.unread -= len(piece)
            if missing is not None:
                missing -= len(piece)
            if len(piece) < wanted:
                self.is_broken, self._chunks_ended, self.unread = True, True, 0
        return b"".join(pieces)

    def send(self, answer: Answer) -> None:
        """Send an answer, once the whole body has come."""
        while self.read(_DRAIN):
            pass
        if self.is_broken:
            raise ConnectionAbortedError
        size = len(answer.body) if answer.size is None else answer.size
        length = {} if answer.status in (204, 304) else {"Content-Length": str(size)}
        self.start(answer.status, {**answer.headers, **length})
        if self.command == "HEAD" or answer.status == 304:
            return
        for piece in answer.pieces or [answer.body]:
            self.wfile.write(piece)

    def _next_chunk(self) -> None:
        if self._chunks_ended:
            return
        if self.unread == 0 and getattr(self, "_is_inside", False):
            self.rfile.readline()
        line = self.rfile.readline()
        try:
            self.unread = int(line.split(b";")[0], 16)
        except ValueError:
            self.is_broken = self._chunks_ended = True
            return
        self._is_inside = self.unread > 0
        if not self.unread:
            self._chunks_ended = True
            while self.rfile.readline().strip():
                pass


class _ThreadingServer(ThreadingHTTPServer):
    """Closes its connections and waits for their threads when it ends."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        self._threads_: list[threading.Thread] = []
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._open.add(request)
        self._threads_ = [each for each in self._threads_ if each.is_alive()] + [thread]
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Connections are broken here, by the clients and on purpose.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def join(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads_:
            thread.join(_JOIN_SECONDS)

"""What stands between a script and the files: a proxy in front of Kinto, and a file server.

Both remember what they were asked, and do wrong what they are told to: each entry of ``faults``
takes one request for a file (or that ``concerned`` finds), in their order. The requests after
them are served as they should be.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from typing_extensions import Self

CHUNK = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What a script asked for."""

    method: str
    path: str
    headers: Mapping[str, str]


class Exchange(BaseHTTPRequestHandler):
    """One request, and what becomes of it."""

    protocol_version = "HTTP/1.1"
    owner: Server

    def handle_one_request(self) -> None:
        # Scripts are killed here, and connections are broken.
        with contextlib.suppress(OSError, http.client.HTTPException):
            super().handle_one_request()
            return
        self.close_connection = True

    def do(self) -> None:
        self.unread = int(self.headers.get("Content-Length", 0))
        request = Request(self.command, self.path, cast(Mapping[str, str], self.headers))
        with self.owner.lock:
            self.owner.requests.append(request)
            is_next = self.owner.faults and self.owner.concerned(request)
            fault = self.owner.faults.pop(0) if is_next else None
        (fault or self.owner.serve)(self)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = do  # noqa: N815

    def read(self, size: int | None = None) -> bytes:
        """Read up to so many bytes of the body, all of it by default."""
        size = self.unread if size is None else min(size, self.unread)
        self.unread -= size
        return self.rfile.read(size)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.start(status, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of the answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def drop(self) -> None:
        """Break the connection, in a way that the other side notices."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *arguments: Any) -> None:
        pass


Fault = Callable[[Exchange], None]


class Server:
    """A server in a thread of this process, on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.concerned = self.is_file
        self.start()

    def start(self, port: int = 0) -> None:
        """Listen, after a ``stop()`` on the same port maybe; 0 is a free one."""
        handler = type("Handler", (Exchange,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/"

    def is_file(self, request: Request) -> bool:
        """Whether a request is for a file to be transferred."""
        raise NotImplementedError

    def serve(self, exchange: Exchange) -> None:
        """Answer as one should."""
        raise NotImplementedError

    def files(self) -> list[Request]:
        """The requests for files."""
        return [request for request in self.requests if self.is_file(request)]

    def reset(self) -> None:
        self.requests.clear()
        self.faults.clear()
        self.concerned = self.is_file

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Proxy(Server):
    """Hands everything on to Kinto. The files are those that are uploaded."""

    def __init__(self, kinto_url: str) -> None:
        super().__init__()
        self._kinto = urlsplit(kinto_url).netloc

    def is_file(self, request: Request) -> bool:
        return request.method == "POST" and request.path.endswith("/attachment")

    def serve(self, exchange: Exchange) -> None:
        status, headers, body = self.forward(exchange)
        exchange.answer(status, headers, body)

    def forward(self, exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
        """Ask Kinto, and return its answer."""
        headers = {**exchange.headers, "Connection": "close"}
        connection = http.client.HTTPConnection(self._kinto, timeout=30)
        try:
            connection.request(exchange.command, exchange.path, exchange.read(), headers)
            answer = connection.getresponse()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name not in ("Connection", "Date", "Server", "Transfer-Encoding")
            }
            return answer.status, kept, answer.read()
        finally:
            connection.close()


class FileServer(Server):
    """Serves a folder below ``url`` + ``files/``, as a web server or a CDN does.

    ``has_ranges`` and ``has_etags`` tell what it can do.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        folder.mkdir()
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.has_ranges = True
        self.has_etags = True

    def add(self, name: str, content: bytes) -> str:
        """Put a file there; returns its URL."""
        (self._folder / name).write_bytes(content)
        return f"{self.url}files/{name}"

    def path_of(self, location: str) -> Path:
        """Where the file with that URL is."""
        return self._folder / location.removeprefix(f"{self.url}files/")

    def is_file(self, request: Request) -> bool:
        return request.path.startswith("/v1/files/")

    def serve(self, exchange: Exchange) -> None:
        path = self._folder / exchange.path.removeprefix("/v1/files/")
        if not path.is_file():
            exchange.answer(404, {})
            return
        start, headers = self.head(exchange, path)
        exchange.start(206 if "Content-Range" in headers else 200, headers)
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                exchange.wfile.write(chunk)

    def etag(self, path: Path) -> str:
        return f'"{path.stat().st_mtime_ns}-{path.stat().st_size}"'

    def head(self, exchange: Exchange, path: Path) -> tuple[int, dict[str, str]]:
        """Where the answer begins, and its headers."""
        size = path.stat().st_size
        etag = self.etag(path)
        headers = {"ETag": etag} if self.has_etags else {}
        wanted = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", ""))
        start = 0
        if wanted and self.has_ranges and exchange.headers.get("If-Range", etag) == etag:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return start, {**headers, "Content-Length": str(size - start)}


def answers(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    """The request is not served, but answered."""

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(status, headers or {}, body)

    return fault


def first(action: Callable[[], object]) -> Fault:
    """Something else happens before the request is served."""

    def fault(exchange: Exchange) -> None:
        action()
        exchange.owner.serve(exchange)

    return fault


def drops_the_upload(after: int) -> Fault:
    """The connection breaks when so many bytes of the body have come."""

    def fault(exchange: Exchange) -> None:
        exchange.read(after)
        exchange.drop()

    return fault


def loses_the_answer(exchange: Exchange) -> None:
    """The file arrives, but the script does not get to know that."""
    assert isinstance(exchange.owner, Proxy)
    exchange.owner.forward(exchange)
    exchange.drop()


def drops_the_download(after: int) -> Fault:
    """The connection breaks when so many bytes were sent."""

    def fault(exchange: Exchange) -> None:
        _send_some(exchange, after)
        exchange.close_connection = True

    return fault


class Stalls:
    """So many bytes of a download are sent, and then nothing, until ``go_on()``."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._over = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        _send_some(exchange, self._after)
        self._over.wait(30)
        exchange.drop()

    def go_on(self) -> None:
        self._over.set()


def _send_some(exchange: Exchange, size: int) -> None:
    server = exchange.owner
    assert isinstance(server, FileServer)
    path = server.path_of(f"{server.url}{exchange.path.removeprefix('/v1/')}")
    start, headers = server.head(exchange, path)
    exchange.start(206 if "Content-Range" in headers else 200, headers)
    with path.open("rb") as file:
        file.seek(start)
        exchange.wfile.write(file.read(size))
    exchange.wfile.flush()

"""The client: uploads whose content is made on the way, and plain requests."""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

USER = "alice:secret"
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_BOUNDARY = "boundary-of-the-benchmark"
_HEAD = (
    f"--{_BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="attachment"; filename="file.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()
AUTHORIZATION = "Basic " + base64.b64encode(USER.encode()).decode()
_JSON = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
_FORM = {
    "Authorization": AUTHORIZATION,
    "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
}
# Nothing that a server or a disk could compress.
BLOCK = os.urandom(MIB)
_TIMEOUT = 600.0
# Waitress closes a connection on which nothing has happened for 2 minutes.
_IDLE_SECONDS = 60.0


def blocks(size: int) -> Iterator[memoryview]:
    """``size`` bytes of content, in pieces of 1 MiB."""
    block = memoryview(BLOCK)
    while size > 0:
        yield block[:size]
        size -= MIB


class Refused(Exception):
    """The server answered something else than success."""


class Conflict(Refused):
    """It answered 409: try again."""


class Client:
    """One user's connection to a server, kept alive. Belongs to one thread."""

    def __init__(self, url: str) -> None:
        """``url`` is that of the API, with a slash at the end."""
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
        self._prefix = parts.path
        self._used = time.monotonic()
        self.server_timing = ""
        """The header of that name in the last response with JSON."""

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that a request with a JSON ``body`` is answered with. Raises ``Refused``."""
        content = None if body is None else json.dumps(body).encode()
        self._send(method, path, content, _JSON)
        return self._answer(method, path)

    def upload(self, record: str, size: int) -> Any:
        """Attach a file of ``size`` bytes to the record with that path. Raises ``Refused``."""
        path = f"{record}/attachment"
        length = len(_HEAD) + size + len(_TAIL)
        headers = {**_FORM, "Content-Length": str(length)}
        if size <= MIB:
            content = b"".join((_HEAD, memoryview(BLOCK)[:size], _TAIL))
            self._send("POST", path, content, headers)
        else:
            self._send("POST", path, _body(size), headers)
        return self._answer("POST", path)

    def download(self, record: str) -> int:
        """Read the file of the record with that path; return its size. Raises ``Refused``."""
        path = f"{record}/attachment"
        self._send("GET", path, None, {"Authorization": AUTHORIZATION})
        response = self._connection.getresponse()
        if response.status != 200:
            raise Refused(f"GET {path}: {response.status} {response.read(500)!r}")
        size, buffer = 0, bytearray(MIB)
        while received := response.readinto(buffer):
            size += received
        return size

    def create_collection(self, bucket: str = "b", collection: str = "c") -> None:
        """Create the bucket and the collection, unless they are there."""
        self.request("PUT", f"buckets/{bucket}")
        self.request("PUT", f"buckets/{bucket}/collections/{collection}")

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
        if time.monotonic() - self._used > _IDLE_SECONDS:
            self._connection.close()  # The request opens it again.
        self._connection.request(method, self._prefix + path, body, headers)

    def _answer(self, method: str, path: str) -> Any:
        response = self._connection.getresponse()
        content = response.read()
        self.server_timing = response.headers.get("Server-Timing", "")
        self._used = time.monotonic()
        if response.status >= 300:
            refused = Conflict if response.status == 409 else Refused
            raise refused(f"{method} {path}: {response.status} {content[:500]!r}")
        return json.loads(content) if content else {}


def record(number: int | str, bucket: str = "b", collection: str = "c") -> str:
    """The path of a record."""
    return f"buckets/{bucket}/collections/{collection}/records/{number}"


def timed(action: Callable[[], object]) -> float:
    """How many seconds ``action()`` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def at_once(actions: list[Callable[[], None]]) -> float:
    """Run each in a thread of its own; how many seconds until the last one is done.

    Raises what one of them raises.
    """
    failures: list[BaseException] = []
    start_line = threading.Barrier(len(actions) + 1)

    def run(action: Callable[[], None]) -> None:
        start_line.wait()
        try:
            action()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    start_line.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise failures[0]
    return elapsed


def _body(size: int) -> Iterator[bytes | memoryview]:
    yield _HEAD
    yield from blocks(size)
    yield _TAIL

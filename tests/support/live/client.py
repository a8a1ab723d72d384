"""A client of a live Kinto, which can also be slow, and vanish."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import requests
from typing_extensions import Self

from tests.support.forms import CONTENT_TYPE, field_part, file_part, form

KIB = 1024
MIB = 1024 * KIB
SECONDS = 60.0

Answer = requests.Response


def uri_of(collection: str, record: str = "r", bucket: str = "b") -> str:
    return f"buckets/{bucket}/collections/{collection}/records/{record}"


class Client:
    """``alice``, who may do everything in what she has created."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(
        self,
        method: str,
        uri: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = SECONDS,
    ) -> Answer:
        """``body`` is sent as JSON, unless it is bytes."""
        kind = "data" if isinstance(body, bytes) else "json"
        return requests.request(
            method,
            self._url + uri,
            headers=headers,
            auth=("alice", "secret"),
            timeout=timeout,
            **{kind: body},
        )

    def create_collections(self, *collections: str, bucket: str = "b") -> None:
        for uri in (
            f"buckets/{bucket}",
            *(f"buckets/{bucket}/collections/{c}" for c in collections),
        ):
            self.request("PUT", uri, {}).raise_for_status()

    def attach(
        self,
        uri: str,
        content: bytes,
        filename: str = "file.txt",
        headers: Mapping[str, str] | None = None,
        **data: Any,
    ) -> Answer:
        """POST a file to the record, with ``data`` for its attributes."""
        parts = [field_part("data", json.dumps(data)), file_part(content, filename)]
        headers = {"Content-Type": CONTENT_TYPE, **(headers or {})}
        return self.request("POST", f"{uri}/attachment", form(parts), headers)

    def record(self, uri: str) -> dict[str, Any]:
        answer = self.request("GET", uri)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def begin(
        self, uri: str, content: bytes, sent: int, headers: Mapping[str, str] | None = None
    ) -> Upload:
        """Begin an upload: the first ``sent`` bytes of ``content`` are sent."""
        return Upload(self._url, uri, content, sent, headers or {})


class Upload:
    """An upload of which a part has been sent."""

    def __init__(
        self, url: str, uri: str, content: bytes, sent: int, headers: Mapping[str, str]
    ) -> None:
        address = urlsplit(url)
        head, _, tail = form([file_part(b"@@@")]).partition(b"@@@")
        all_headers = {
            "Host": address.netloc,
            "Authorization": "Basic " + base64.b64encode(b"alice:secret").decode(),
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(len(head) + len(content) + len(tail)),
            **headers,
        }
        lines = [f"{name}: {value}\r\n" for name, value in all_headers.items()]
        start = f"POST {address.path}{uri}/attachment HTTP/1.1\r\n{''.join(lines)}\r\n"
        self._rest = content[sent:] + tail
        self._socket = socket.create_connection((address.hostname, address.port), SECONDS)
        self._socket.sendall(start.encode() + head + content[:sent])

    def send_rest(self) -> None:
        rest, self._rest = self._rest, b""
        self._socket.sendall(rest)

    def finish(self) -> int:
        """Send the rest; return the status of the answer."""
        self.send_rest()
        return self.status()

    def status(self) -> int:
        """Wait for the answer, and return its status; 0 if the connection ends without one."""
        with self._socket, closing(http.client.HTTPResponse(self._socket)) as answer:
            try:
                answer.begin()
            except http.client.RemoteDisconnected:
                return 0
            answer.read()
            return answer.status

    def half_close(self) -> None:
        """Tell the server that nothing more comes, but still listen."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish, as a process or a machine that is switched off."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Do all of it at the same time; return the results in their order."""
    barrier = Barrier(len(actions), timeout=SECONDS)

    def do(action: Callable[[], Any]) -> Any:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(do, actions))

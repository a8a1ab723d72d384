"""What the tests of the fake of Google Cloud Storage ask it for, in HTTP."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import google_crc32c
import requests

from tests.support.servers.gcs import GcsServer

GRANULE = 256 * 1024


class Client:
    """Sends single requests, as ``requests`` does, and repeats none."""

    def __init__(self, server: GcsServer) -> None:
        self.server = server
        self.bucket = server.bucket
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        url = path if path.startswith("http") else f"{self.server.endpoint_url}{path}"
        return self._session.request(method, url, allow_redirects=False, **options)

    def at(self, name: str, query: str = "", *, method: str = "GET", **options: Any) -> Any:
        """Ask for an object, or for something below it (``name/compose``)."""
        name, slash, rest = name.partition("//")
        path = f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}{'/' * len(slash[:1])}{rest}"
        return self.call(method, f"{path}?{query}", **options)

    def list(self, query: str = "") -> requests.Response:
        return self.call("GET", f"/storage/v1/b/{self.bucket}/o?{query}")

    def upload(self, query: str, **options: Any) -> requests.Response:
        return self.call("POST", f"/upload/storage/v1/b/{self.bucket}/o?{query}", **options)

    def put(self, name: str, content: bytes = b"content", query: str = "") -> requests.Response:
        """Upload in one request, without metadata."""
        name = quote(name, safe="")
        return self.upload(
            f"uploadType=media&name={name}&{query}",
            data=content,
            headers={"Content-Type": "text/plain"},
        )

    def insert(
        self,
        metadata: dict[str, Any],
        content: bytes = b"content",
        query: str = "",
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """Upload in one ``multipart/related`` request."""
        body = b"".join(
            [
                b"--edge\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n",
                json.dumps(metadata).encode(),
                b"\r\n--edge\r\nContent-Type: text/plain\r\n\r\n",
                content,
                b"\r\n--edge--",
            ]
        )
        headers = {"Content-Type": "multipart/related; boundary=edge", **(headers or {})}
        return self.upload(f"uploadType=multipart&{query}", data=body, headers=headers)

    def start(self, name: str, query: str = "", **options: Any) -> str:
        """Start a resumable upload; return its URI."""
        answer = self.upload(
            f"uploadType=resumable&name={quote(name, safe='')}&{query}", **options
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["Location"]

    def send(
        self, uri: str, content_range: str, content: bytes = b"", **headers: str
    ) -> requests.Response:
        """Send a chunk, or a status query."""
        headers = {"Content-Range": f"bytes {content_range}", **headers}
        return self.call("PUT", uri, data=content, headers=headers)

    def read(self, name: str, **options: Any) -> requests.Response:
        """Ask as an anonymous reader does."""
        return self.call("GET", f"/{self.bucket}/{quote(name)}", **options)


def reason(answer: requests.Response) -> tuple[int, str]:
    """The status of an error and Google's reason."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["errors"][0]["message"] == error["message"]
    return answer.status_code, error["errors"][0]["reason"]


def crc32c_of(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()

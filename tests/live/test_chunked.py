"""Bodies in chunks (RFC 9112, section 7.1), well-formed and malformed, behind gunicorn."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.support.forms import CONTENT_TYPE, file_part, form

pytestmark = pytest.mark.parametrize("backend", ["memory"], indirect=True)

RECORD = "/v1/buckets/{bucket}/collections/c/records/{record}"
AUTHORIZATION = "Basic " + base64.b64encode(b"alice:secret").decode()
OFFSET_TYPE = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
CHUNKED = {"Transfer-Encoding": "chunked"}
GOOD = b"x" * 3000

# What comes after the chunk of good bytes, and whether its bytes count as well.
MALFORMED = {
    "a size in letters": b"zz\r\nyyy\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nyyy\r\n0\r\n\r\n",
    "an empty size": b"\r\nyyy\r\n0\r\n\r\n",
    "a size without an end": b"5" * 20_000,
    "a bad extension": b"3;=\x01\r\nyyy\r\n0\r\n\r\n",
    "a bad trailer": b"0\r\nno trailer\r\n\r\n",
    "a trailer with a space": b"0\r\nX-A : b\r\n\r\n",
    "too many trailers": b"0\r\n" + b"X-A: b\r\n" * 2000 + b"\r\n",
    "too long a trailer": b"0\r\nX-A: " + b"b" * 500_000 + b"\r\n\r\n",
    "no end": b"",
    "no end of the trailers": b"0\r\nX-A: b\r\n",
}


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


class Client:
    """``alice``, who writes to a socket what she likes."""

    def __init__(self, kinto: Any) -> None:
        self.kinto = kinto

    def send(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """``body`` goes as it is, and is the last thing that is sent."""
        sent = {"Host": "localhost", "Authorization": AUTHORIZATION, **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in sent.items()), "", ""]
        with socket.create_connection(("127.0.0.1", self.kinto.port), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode() + body)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while more := connection.recv(65536):
                received += more
        head, _, content = received.partition(b"\r\n\r\n")
        status, *rest = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in rest), content

    def begin(self, endpoint: str, length: int, body: bytes = b"", **headers: str) -> Any:
        announced = {**TUS, "Upload-Length": str(length), **headers}
        return self.send("POST", f"{endpoint}/attachment", body, **announced)

    def get(self, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.kinto.port}{path}"
        found: dict[str, Any] = requests.get(url, auth=("alice", "secret"), timeout=30).json()
        return found


@pytest.fixture
def client(live_kinto: Callable[..., Any]) -> Client:
    kinto = live_kinto("gunicorn")
    for path in ("buckets/b", "buckets/b/collections/c"):
        requests.put(kinto.url + path, json={}, auth=("alice", "secret"), timeout=30)
    return Client(kinto)


def path_of(location: str) -> str:
    return "/" + location.split("/", 3)[3]


@pytest.mark.parametrize("bucket", ["b", "default"])
def test_every_kind_of_upload_in_chunks(client, bucket):
    def record(name: str) -> str:
        return RECORD.format(bucket=bucket, record=name)

    def size(name: str) -> int:
        found: int = client.get(record(name))["data"]["attachment"]["size"]
        return found

    body = chunk(form([file_part(GOOD)])) + b"0\r\n\r\n"
    status, _, content = client.send(
        "POST", f"{record('form')}/attachment", body, **CHUNKED, **{"Content-Type": CONTENT_TYPE}
    )
    assert (status, json.loads(content)["size"]) == (201, len(GOOD))
    assert size("form") == len(GOOD)

    whole = chunk(GOOD) + b"0\r\n\r\n"
    status, headers, _ = client.begin(
        record("creation"), len(GOOD), whole, **CHUNKED, **{"Content-Type": OFFSET_TYPE}
    )
    assert (status, headers["Upload-Offset"]) == (201, str(len(GOOD)))
    assert size("creation") == len(GOOD)

    status, headers, _ = client.begin(record("patch"), 2 * len(GOOD))
    assert status == 201
    # The upload has the address of the user's own bucket: the alias works as well.
    upload = path_of(headers["Location"])
    upload = record("patch") + upload[upload.index("/attachment/") :]
    for offset in (0, len(GOOD)):
        status, headers, _ = client.send(
            "PATCH",
            upload,
            whole,
            **{**TUS, **CHUNKED, "Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE},
        )
        assert (status, headers["Upload-Offset"]) == (204, str(offset + len(GOOD)))
    assert size("patch") == 2 * len(GOOD)


@pytest.mark.parametrize("bucket", ["b", "default"])
def test_malformed_chunks_are_the_clients_fault(client, files, bucket):
    endpoint = RECORD.format(bucket=bucket, record="r")
    for name, end in MALFORMED.items():
        for good in (form([file_part(GOOD)]), b""):
            body = (chunk(good) if good else b"") + end
            status, headers, content = client.send(
                "POST", f"{endpoint}/attachment", body, **CHUNKED, **{"Content-Type": CONTENT_TYPE}
            )
            assert status == 400, name
            # Gunicorn has its own words for a header that never ends.
            assert json.loads(content)["errno"] == 107, name
            assert json.loads(content)["message"].startswith("body: "), name

        status, _, _ = client.begin(
            endpoint,
            10_000,
            chunk(GOOD) + end,
            **CHUNKED,
            **{"Content-Type": OFFSET_TYPE},
        )
        assert status == 400, name
    assert client.get(f"{endpoint.rpartition('/')[0]}").get("data", []) == []
    assert [path for path in files.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("size", [3000, 700_000])
def test_a_resumable_upload_keeps_the_good_bytes_before_a_malformed_chunk(client, size):
    endpoint = RECORD.format(bucket="b", record="r")
    good = b"x" * size
    for name, end in MALFORMED.items():
        status, headers, _ = client.begin(endpoint, 2 * size)
        assert status == 201
        upload = path_of(headers["Location"])

        status, _, content = client.send(
            "PATCH",
            upload,
            chunk(good) + end,
            **{**TUS, **CHUNKED, "Upload-Offset": "0", "Content-Type": OFFSET_TYPE},
        )

        assert status == 400, name
        assert json.loads(content)["errno"] == 107
        status, headers, _ = client.send("HEAD", upload, **TUS)
        assert (status, headers["Upload-Offset"]) == (200, str(size)), name
    status, _, _ = client.send(
        "PATCH",
        upload,
        chunk(b"y" * size) + b"0\r\n\r\n",
        **{**TUS, **CHUNKED, "Upload-Offset": str(size), "Content-Type": OFFSET_TYPE},
    )
    assert status == 204
    assert client.get(endpoint)["data"]["attachment"]["size"] == 2 * size

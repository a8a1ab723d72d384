"""A client that speaks tus, one request at a time."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from webtest import TestApp, TestResponse

from tests.support.records import Record

OFFSET_TYPE = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}


def encoded(value: bytes | str) -> str:
    """A value of the metadata."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def metadata(**pairs: Any) -> str:
    """``Upload-Metadata``; what is no text is sent as JSON."""
    texts = {
        key: value if isinstance(value, str | bytes) else json.dumps(value)
        for key, value in pairs.items()
    }
    return ",".join(f"{key} {encoded(value)}" for key, value in texts.items())


def checksum(content: bytes, algorithm: str = "sha1") -> str:
    """``Upload-Checksum``."""
    return f"{algorithm} {encoded(hashlib.new(algorithm, content).digest())}"


class Upload:
    """An upload that has begun."""

    def __init__(self, record: Record, url: str) -> None:
        self.record = record
        self.url = url
        self.path = url.removeprefix("http://localhost")

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]

    def send(
        self,
        method: str,
        body: bytes = b"",
        status: int | None = None,
        content_type: str | None = None,
        **headers: str | None,
    ) -> TestResponse:
        """Any request; ``Upload_Offset="5"`` is a header, ``None`` leaves one out."""
        return send(self.record, method, self.path, body, status, content_type, **headers)

    def head(self, status: int = 200, **headers: str | None) -> TestResponse:
        return self.send("HEAD", status=status, **headers)

    def patch(
        self, offset: int, content: bytes = b"", status: int = 204, **headers: str | None
    ) -> TestResponse:
        sent = {"Upload_Offset": str(offset), **headers}
        return self.send("PATCH", content, status, OFFSET_TYPE, **sent)

    def delete(self, status: int = 204, **headers: str | None) -> TestResponse:
        return self.send("DELETE", status=status, **headers)

    def stream(self, offset: int, body: Any, status: int | None = None, **environ: Any) -> Any:
        """PATCH with what the stream ``body`` has."""
        app = TestApp(self.record.app.app, lint=False)
        user = dict(self.record.app.extra_environ)
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE}
        request = app.RequestClass.blank(self.path, environ=user, method="PATCH", headers=headers)
        request.environ.update({"wsgi.input": body, **environ})
        return app.do_request(request, status=status)

    @property
    def offset(self) -> int:
        """What the server says."""
        return int(self.head().headers["Upload-Offset"])

    def as_user(self, user: str | None) -> Upload:
        return Upload(self.record.as_user(user), self.url)


def send(
    record: Record,
    method: str,
    path: str,
    body: bytes = b"",
    status: int | None = None,
    content_type: str | None = None,
    **headers: str | None,
) -> TestResponse:
    """A request of a client that speaks tus."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**TUS, **named}.items() if value is not None}
    if content_type is not None:
        sent["Content-Type"] = content_type
    app = TestApp(record.app.app, lint=False)
    request = app.RequestClass.blank(
        path,
        environ=dict(record.app.extra_environ),
        method=method,
        headers=sent,
        body=body,
    )
    return app.do_request(request, status=status)


def creation(
    record: Record,
    body: bytes = b"",
    status: int | None = 201,
    content_type: str | None = None,
    **headers: str | None,
) -> TestResponse:
    """POST to the record's attachment."""
    return send(record, "POST", record.endpoint, body, status, content_type, **headers)


def begin(record: Record, length: int | None = 10, **headers: str | None) -> Upload:
    """Begin an upload of ``length`` bytes, of ``file.txt`` unless the metadata says otherwise."""
    announced: dict[str, str | None] = (
        {"Upload_Defer_Length": "1"} if length is None else {"Upload_Length": str(length)}
    )
    sent = {"Upload_Metadata": metadata(filename="file.txt"), **announced, **headers}
    return Upload(record, creation(record, **sent).headers["Location"])

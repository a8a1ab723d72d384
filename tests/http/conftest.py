"""A record to attach files to, as a client sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp, TestResponse

from tests.conftest import KintoApp
from tests.forms import CONTENT_TYPE, field_part, file_part, form


class Record:
    """The record ``r`` in the collection ``c`` of the bucket ``b``, or another."""

    def __init__(self, app: KintoApp, files: Path, uri: str) -> None:
        self.app = app
        self.folder = files
        self.uri = uri
        self.path = f"/v1{uri}"
        self.endpoint = f"{self.path}/attachment"

    def attach(
        self,
        content: bytes = b"content",
        filename: str = "file.txt",
        content_type: str | None = None,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> TestResponse:
        """POST a file; ``data`` and ``permissions`` are sent as JSON."""
        parts = [field_part(name, json.dumps(value)) for name, value in fields.items()]
        parts.append(file_part(content, filename, content_type))
        return self.send(*parts, status=status, headers=headers)

    def send(
        self, *parts: bytes, status: int | None = None, headers: dict[str, str] | None = None
    ) -> TestResponse:
        """POST a form with these parts."""
        return self.post(form(parts), CONTENT_TYPE, status=status, headers=headers)

    def post(
        self,
        body: bytes,
        content_type: str,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        """POST any body. (WebTest's ``post()`` would make a form of its own of it.)"""
        return self.app.request(
            self.endpoint,
            method="POST",
            body=body,
            content_type=content_type,
            headers=headers,
            status=status,
        )

    def stream(self, body: Any, status: int | None = None, **environ: Any) -> TestResponse:
        """POST what the stream ``body`` has, as a server that streams bodies would."""
        # WebTest's lint looks at the stream more closely than servers and applications do.
        app = TestApp(self.app.app, lint=False)
        user = dict(self.app.extra_environ)
        request = app.RequestClass.blank(self.endpoint, environ=user, method="POST")
        request.environ.update({"wsgi.input": body, "CONTENT_TYPE": CONTENT_TYPE, **environ})
        return app.do_request(request, status=status)

    def detach(self, status: int = 204, headers: dict[str, str] | None = None) -> TestResponse:
        """DELETE the attachment."""
        return self.app.delete(self.endpoint, headers=headers, status=status)

    def create(self, **data: Any) -> dict[str, Any]:
        """PUT the record without a file."""
        created: dict[str, Any] = self.app.put_json(self.path, {"data": data}).json["data"]
        return created

    @property
    def data(self) -> dict[str, Any]:
        """The attributes of the record."""
        data: dict[str, Any] = self.app.get(self.path).json["data"]
        return data

    @property
    def exists(self) -> bool:
        return bool(self.app.get(self.path, expect_errors=True).status_code == 200)

    @property
    def etag(self) -> str:
        etag: str = self.app.get(self.path).headers["ETag"]
        return etag

    @property
    def content(self) -> bytes:
        """The bytes of the file that the record shows."""
        location = self.data["attachment"]["location"]
        return (self.folder / location.removeprefix("https://files.example.org/")).read_bytes()

    def files(self) -> list[str]:
        """The names of all the files that are stored, whoever holds them."""
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()
        )

    def other(self, record_id: str = "other", collection_id: str = "c") -> Record:
        """Another record of the bucket."""
        uri = f"/buckets/b/collections/{collection_id}/records/{record_id}"
        return Record(self.app, self.folder, uri)

    def as_user(self, user: str | None) -> Record:
        """The same record as another user sees it."""
        return Record(self.app.as_user(user), self.folder, self.uri)


@pytest.fixture
def make_record(make_app: Callable[..., KintoApp], files: Path) -> Callable[..., Record]:
    """``make_record(attachment={...}, **settings)``: a record of a Kinto with these settings, in
    an existing collection; the record itself does not exist."""

    def make(**settings: Any) -> Record:
        app = make_app(**settings)
        app.put_json("/v1/buckets/b", {})
        app.put_json("/v1/buckets/b/collections/c", {})
        return Record(app, files, "/buckets/b/collections/c/records/r")

    return make


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Record:
    return make_record()

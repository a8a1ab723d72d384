"""A record to attach files to, as a client sees it, and the fixtures of the tests that have one:
their ``conftest.py`` imports them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kinto.core.events import ResourceChanged
from webtest import TestApp, TestResponse

from tests.conftest import KintoApp, Settings, kinto_settings_with
from tests.support.forms import CONTENT_TYPE, field_part, file_part, form
from tests.support.inventory import Bucket, Folder, GoogleBucket, Inventory, Stored


class Record:
    """The record ``r`` in the collection ``c`` of the bucket ``b``, or another."""

    def __init__(self, app: KintoApp, stored: Stored, uri: str) -> None:
        self.app = app
        self.stored = stored
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
        return self.stored.read(location.removeprefix("https://files.example.org/"))

    @property
    def folder(self) -> Path:
        """Where files are stored, for what is on the local disk only."""
        assert isinstance(self.stored, Folder)
        return self.stored.path

    def files(self) -> list[str]:
        """The names of all the files that are stored, whoever holds them."""
        return self.stored.names()

    @property
    def inventory(self) -> Inventory:
        """What there is of records, rows and files, this record's and all the others'."""
        return Inventory(self.app.registry, self.stored)

    def other(self, record_id: str = "other", collection_id: str = "c") -> Record:
        """Another record of the bucket."""
        bucket_uri = self.uri.partition("/collections/")[0]
        uri = f"{bucket_uri}/collections/{collection_id}/records/{record_id}"
        return Record(self.app, self.stored, uri)

    def as_user(self, user: str | None) -> Record:
        """The same record as another user sees it."""
        return Record(self.app.as_user(user), self.stored, self.uri)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> str:
    """Where files are stored: ``local``, ``s3``, ``moto`` or ``gcloud``. Tests that are marked
    ``both_storages`` have them on S3 where the objects are in PostgreSQL: not all four pairs, as
    the plugin never mixes the two. A test may also be parametrized."""
    both = request.node.get_closest_marker("both_storages")
    return "s3" if both and request.getfixturevalue("backend") == "postgresql" else "local"


@pytest.fixture
def bucket() -> str:
    """The bucket of the records, which a test may set to ``default``."""
    return "b"


@pytest.fixture
def stored(where: str, files: Path, request: pytest.FixtureRequest) -> Iterator[Stored]:
    """What is stored, seen behind the plugin's back."""
    if where == "local":
        yield Folder(files)
    elif where == "gcloud":
        yield GoogleBucket(request.getfixturevalue("gcs"))
    else:
        yield Bucket(request.getfixturevalue("seaweedfs" if where == "s3" else where))


@pytest.fixture
def kinto_settings(kinto_settings: Settings, stored: Stored) -> Settings:
    """Those of all tests, with files stored in ``stored``."""
    return kinto_settings_with(kinto_settings, stored.settings, {})


@pytest.fixture
def take_stock(
    request: pytest.FixtureRequest, stored: Stored, backend: str
) -> Iterator[Callable[[KintoApp], KintoApp]]:
    """After the test, records, rows and files of the ``app`` that was passed to this agree,
    unless the test is marked with why they do not: ``pytest.mark.leaves("...")``. With
    ``backend="memory"``, where nothing rolls back, no record shows a missing file even then."""
    apps: list[KintoApp] = []

    def take(app: KintoApp) -> KintoApp:
        apps.append(app)
        return app

    yield take
    leaves = request.node.get_closest_marker("leaves")
    for app in apps:
        if leaves is None or leaves.kwargs.get("backend", backend) != backend:
            Inventory(app.registry, stored).check()
        elif leaves.kwargs:
            Inventory(app.registry, stored).check_records()


@pytest.fixture
def subscribe() -> Iterator[Callable[[KintoApp, Callable[[Any], None]], None]]:
    """``subscribe(app, handler)``: until the test ends, ``handler`` is called for each event of a
    change, after all other subscribers."""
    subscribed = []

    def subscribe(app: KintoApp, handler: Callable[[Any], None]) -> None:
        app.registry.registerHandler(handler, (ResourceChanged,))
        subscribed.append((app, handler))

    yield subscribe
    for app, handler in subscribed:
        app.registry.unregisterHandler(handler, (ResourceChanged,))


@pytest.fixture
def make_record(
    make_app: Callable[..., KintoApp],
    stored: Stored,
    bucket: str,
    take_stock: Callable[[KintoApp], KintoApp],
) -> Callable[..., Record]:
    """``make_record(attachment={...}, **settings)``: a record of a Kinto with these settings, in
    an existing collection; the record itself does not exist."""

    def make(**settings: Any) -> Record:
        app = take_stock(make_app(**settings))
        app.put_json(f"/v1/buckets/{bucket}", {})
        app.put_json(f"/v1/buckets/{bucket}/collections/c", {})
        return Record(app, stored, f"/buckets/{bucket}/collections/c/records/r")

    return make


@pytest.fixture
def spied_record(make_record: Callable[..., Record]) -> Record:
    """A record of a Kinto that remembers the events of this test: see
    ``tests.plugins.recording_events``."""
    record = make_record(
        **{
            "kinto.event_listeners": "spy",
            "kinto.event_listeners.spy.use": "tests.plugins.recording_events",
        }
    )
    record.app.registry.spied.clear()
    record.app.registry.spied_after.clear()
    return record


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Record:
    return make_record()

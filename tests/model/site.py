"""The site that a random day happens on: Kinto in this process, its database, its folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import transaction
from kinto.core.cornice.service import SERVICES
from kinto.core.utils import sqlalchemy
from pyramid import paster
from pyramid.config import global_registries
from webtest import TestApp, TestResponse

from kinto_attachment.commands import main
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.tus.store import UPLOADS, ResumableUpload, UploadStore, from_row
from tests.conftest import KintoApp
from tests.support.inventory import Folder, Inventory
from tests.support.records import Record
from tests.support.storage_faults import Fuse

DISK_CALLS = ("open", "write", "fsync", "link", "unlink", "mkdir", "rmdir", "ftruncate", "rename")


class Killed(BaseException):
    """The process is killed."""


class Site:
    """Starts Kinto again and again on one database and one folder."""

    def __init__(
        self, start: Callable[..., KintoApp], folder: Path, clean: Callable[[], None] | None
    ) -> None:
        """``start(base_url)`` starts Kinto; ``clean()`` empties its database, ``None`` if it is
        in the memory of the process."""
        self._start = start
        self._clean = clean
        self._folder = Folder(folder)
        self._apps: dict[str, KintoApp] = {}
        self._services: list[Any] = []
        self.base_url = ""

    @property
    def registry(self) -> Any:
        return self.app.registry

    @property
    def is_transactional(self) -> bool:
        return self._clean is not None

    def restart(self, base_url: str, *, anew: bool = False) -> None:
        """Go on with another ``base_url``; with ``anew``, in a process that knows nothing."""
        self.base_url = base_url
        if anew or base_url not in self._apps:
            app = self._start(base_url)
            # Kinto lists the services of every application, for ever.
            self._services = self._services or list(SERVICES)
            SERVICES[:] = self._services
            if self._clean is None and self._apps:
                (first, *_) = self._apps.values()
                app.registry.storage = first.registry.storage
                app.registry.permission = first.registry.permission
            self._apps[base_url] = app
        self.app = self._apps[base_url]
        self._client = TestApp(self.app.app, lint=False)
        self._client.authorization = self.app.authorization

    def empty(self) -> None:
        """Remove everything."""
        if self._clean is None:
            self.registry.storage.flush()
            self.registry.permission.flush()
        else:
            self._clean()
        for path in sorted(self._folder.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        """Send a request, whose ``body`` is JSON. The answer is any but a 5xx."""
        sent = {"headers": headers or {}, "method": method, "expect_errors": True}
        if body is not None:
            sent |= {"body": json.dumps(body).encode(), "content_type": "application/json"}
        return answered(self._client.request(f"/v1{path}", **sent))

    def record(self, uri: str) -> Record:
        """A record, for uploads to it."""
        return Record(self.app, self._folder, uri)

    def records(self) -> dict[str, dict[str, Any]]:
        """All the records by their URI, read behind the plugin's back."""
        stock = self._inventory._objects("record").items()
        return {f"{parent}/records/{record_id}": record for (parent, record_id), record in stock}

    def collections(self) -> set[str]:
        """The URIs of all the collections."""
        stock = self._inventory._objects("collection")
        return {f"{bucket}/collections/{collection_id}" for bucket, collection_id in stock}

    def uploads(self) -> list[ResumableUpload]:
        """The resumable uploads that are not done."""
        stock = self._inventory._objects(UPLOADS).items()
        found = [
            from_row({**row, "id": upload_id, "last_modified": 0}) for (_, upload_id), row in stock
        ]
        return [upload for upload in found if not upload.done]

    def change_uploads(self, change: Callable[[ResumableUpload], ResumableUpload]) -> None:
        """Change the rows of all unfinished uploads, as time would."""
        with transaction.manager:
            for upload in self.uploads():
                UploadStore(self.registry.storage).save(change(upload))

    def stored(self) -> dict[str, bytes]:
        """The files on the disk, those on their way in too."""
        return {name: self._folder.read(name) for name in self._folder.names()}

    @property
    def files(self) -> Any:
        """The plugin's file storage."""
        return self._inventory._files

    def check_rows(self) -> None:
        """Assert that records, rows and files agree."""
        self._inventory.check()

    def command(
        self, *arguments: str, meanwhile: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Run ``kinto-attachment``; return what it prints, and the ``status`` of its exit.
        ``meanwhile()`` happens when it has read the records, and lists the files next."""
        output, list_files = io.StringIO(), LocalStorage.list
        transaction.abort()

        def get_app(*_: Any, **__: Any) -> Any:
            global_registries.add(self.registry)
            return self.app.app

        def list_later(files: LocalStorage, *arguments: Any, **named: Any) -> Any:
            if meanwhile is not None:
                in_another_thread(meanwhile)
            return list_files(files, *arguments, **named)

        with (
            mock.patch.object(paster, "get_app", get_app),
            mock.patch.object(LocalStorage, "list", list_later),
            contextlib.redirect_stdout(output),
        ):
            status = main([*arguments, "--json"])
        return {**json.loads(output.getvalue() or "{}"), "status": status}

    def kill_in(self, steps: int, request: Callable[[], Any]) -> None:
        """Send a request, in whose course the process is killed after so many ``steps``: calls of
        the system that change the disk, statements and commits. Another one takes over."""
        with contextlib.suppress(Killed), self._killed_after(steps):
            request()
        transaction.abort()
        client = self.registry.storage.client
        client.session_factory.remove()
        self._engine.dispose()
        self.restart(self.base_url, anew=True)

    @contextlib.contextmanager
    def _killed_after(self, steps: int) -> Iterator[None]:
        fuse = Fuse(steps, done=False)

        def fail() -> None:
            raise Killed

        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: fuse.step(lambda: call(*args, **kwargs), fail)

        def step(*_: Any) -> None:
            fuse.step(lambda: None, fail)

        events = sqlalchemy.event
        listened = [(self._engine, name, step) for name in ("before_cursor_execute", "commit")]
        for each in listened:
            events.listen(*each)
        try:
            calls = {name: guarded(getattr(os, name)) for name in DISK_CALLS}
            with mock.patch.multiple(os, **calls):
                yield
        finally:
            for each in listened:
                events.remove(*each)

    @property
    def _engine(self) -> Any:
        return self.registry.storage.client.session_factory().get_bind()

    @property
    def _inventory(self) -> Inventory:
        return Inventory(self.registry, self._folder)


def answered(response: TestResponse) -> TestResponse:
    """The answer, which no request of a client may make a 5xx."""
    assert response.status_code < 500, f"{response.status} {response.text}"
    return response


def in_another_thread(action: Callable[[], None]) -> None:
    """Run it with a transaction of its own; raise what it raises."""
    raised = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error

"""Files go when the server is flushed (``POST /__flush__``): those that have a row of ours, and no
other. So do unfinished uploads.

Kinto empties its storage, commits, and only then tells: so what there is is written down before,
and deleted after.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import transaction
from kinto.events import ServerFlushed
from pyramid.events import ContextFound

from kinto_attachment.attachments.file_changes import logger
from kinto_attachment.attachments.references import FILES
from kinto_attachment.database.scan import is_postgresql, rows_of_ours, rows_of_uploads
from kinto_attachment.database.transactions import outermost
from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.resumable import State
from kinto_attachment.tus.store import UPLOADS

_ROUTE = "flush"
_FOUND = "_attachments_found"


def register(config: Any) -> None:
    """Subscribe. Nothing happens where Kinto's flush plugin is not enabled."""
    config.add_subscriber(on_context_found, ContextFound)
    config.add_subscriber(on_server_flushed, ServerFlushed)


def on_context_found(event: Any) -> None:
    """A request is about to be handled: if it is a flush, write down what we have stored."""
    request = event.request
    route = request.matched_route
    if route is None or route.name != _ROUTE or request.method != "POST":
        return
    found = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - until all is done
    outermost(request).add_finished_callback(lambda request: found.close())
    found.writelines(f"{json.dumps(item)}\n" for item in _found(request.registry.storage))
    setattr(request, _FOUND, found)


def _found(storage: Any) -> Iterator[str | State]:
    """The names of files, and the states of unfinished ones."""
    if is_postgresql(storage):
        with storage.client.connect(readonly=True) as session:
            for row in rows_of_ours(session, FILES):
                yield row["name"]
            for row in rows_of_uploads(session):
                yield from _stored_of(row)
    else:
        # They are in memory already: a list of them does not fill it.
        for row in storage.list_all(resource_name=FILES, parent_id="__attachments__/*"):
            yield row["name"]
        for row in storage.list_all(resource_name=UPLOADS, parent_id="*"):
            yield from _stored_of(row)


def _stored_of(row: dict[str, Any]) -> Iterator[str | State]:
    # The file of an upload that is done has a row of its own.
    if not row["done"]:
        yield row["state"]
        if row["name"] is not None:
            yield row["name"]


def on_server_flushed(event: Any) -> None:
    """Kinto's storage is empty, so no record shows a file any more."""
    found = getattr(event.request, _FOUND, None)
    # Others may tell of a flush of their own: what they emptied is not known, and left for gc.
    if found is not None:
        hook = transaction.get().addAfterCommitHook
        hook(_delete, args=(event.request.attachment, found))


def _delete(success: bool, storage: FileStorage, found: IO[str]) -> None:
    # Whether this transaction committed or not, the storage had been emptied before it.
    for name, error in storage.delete_many(item for item in _read(found) if isinstance(item, str)):
        if error is not None:
            logger.error("%s could not be deleted, and is left for gc.", name, exc_info=error)
    for item in _read(found):
        if not isinstance(item, str):
            storage.cancel(item)


def _read(found: IO[str]) -> Iterator[str | State]:
    found.seek(0)
    return map(json.loads, found)

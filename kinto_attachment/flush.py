"""Files go when the server is flushed (``POST /__flush__``): those that have a row of ours, and no
other.

Kinto empties its storage, commits, and only then tells: so the names are written down before, and
the files are deleted after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import transaction
from kinto.events import ServerFlushed
from pyramid.events import ContextFound

from kinto_attachment.database import is_postgresql, rows_of_ours
from kinto_attachment.references import FILES
from kinto_attachment.storage import FileStorage, StorageUnavailable
from kinto_attachment.transaction import logger

_ROUTE = "flush"
_NAMES = "_attachment_names"


def register(config: Any) -> None:
    """Subscribe. Nothing happens where Kinto's flush plugin is not enabled."""
    config.add_subscriber(on_context_found, ContextFound)
    config.add_subscriber(on_server_flushed, ServerFlushed)


def on_context_found(event: Any) -> None:
    """A request is about to be handled: if it is a flush, write down the names of our files."""
    request = event.request
    route = request.matched_route
    if route is None or route.name != _ROUTE or request.method != "POST":
        return
    names = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - until all is done
    _outermost(request).add_finished_callback(lambda request: names.close())
    # No name has a line break in it: they are ASCII letters, digits and a few others.
    names.writelines(f"{name}\n" for name in _names(request.registry.storage))
    setattr(request, _NAMES, names)


def _names(storage: Any) -> Iterator[str]:
    if is_postgresql(storage):
        with storage.client.connect(readonly=True) as session:
            for row in rows_of_ours(session, FILES):
                yield row["name"]
    else:
        # They are in memory already: a list of them does not fill it.
        for row in storage.list_all(resource_name=FILES, parent_id="__attachments__/*"):
            yield row["name"]


def on_server_flushed(event: Any) -> None:
    """Kinto's storage is empty, so no record shows a file any more."""
    names = getattr(event.request, _NAMES, None)
    # Others may tell of a flush of their own: what they emptied is not known, and left for gc.
    if names is not None:
        hook = transaction.get().addAfterCommitHook
        hook(_delete, args=(event.request.attachment, names))


def _delete(success: bool, storage: FileStorage, names: IO[str]) -> None:
    # Whether this transaction committed or not, the storage had been emptied before it.
    names.seek(0)
    for line in names:
        name = line.rstrip("\n")
        try:
            storage.delete(name)
        except StorageUnavailable:
            logger.exception("%s could not be deleted, and is left for gc.", name)


def _outermost(request: Any) -> Any:
    """The request that a batch came in."""
    while getattr(request, "parent", None) is not None:
        request = request.parent
    return request

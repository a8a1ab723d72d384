"""Delete files when the server is flushed (``POST /__flush__``): all that the plugin's rows name,
and those of resumable uploads.

Kinto empties its storage and commits before it notifies. So the rows are read before, into a
temporary file, and files are deleted after.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Container, Iterator
from itertools import islice
from typing import IO, Any

import transaction
from kinto.events import ServerFlushed
from pyramid.events import ContextFound

from kinto_attachment.attachments.file_changes import FileChanges, delete_files
from kinto_attachment.attachments.lookup import FILES
from kinto_attachment.attachments.references import References
from kinto_attachment.database.scan import current_rows
from kinto_attachment.database.transactions import outermost
from kinto_attachment.storage import FileStorage, State
from kinto_attachment.tus.store import UploadStore

_ROUTE = "flush"
_FOUND = "_attachments_found"
_PAGE = 1000
"""Names in one question to the records."""


def register(config: Any) -> None:
    """Subscribe. Without Kinto's flush plugin, nothing happens."""
    config.add_subscriber(on_context_found, ContextFound)
    config.add_subscriber(on_server_flushed, ServerFlushed)


def on_context_found(event: Any) -> None:
    """Write down what is stored, if the request is a flush."""
    request = event.request
    route = request.matched_route
    if route is None or route.name != _ROUTE or request.method != "POST":
        return
    found = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by the callback
    outermost(request).add_finished_callback(lambda request: found.close())
    found.writelines(f"{json.dumps(item)}\n" for item in _stored(request.registry.storage))
    setattr(request, _FOUND, found)


def on_server_flushed(event: Any) -> None:
    """Delete what was written down, once the transaction has ended."""
    found = getattr(event.request, _FOUND, None)
    # Other plugins may notify of a flush of their own: its files are left for gc.
    if found is None:
        return
    files, registry = event.request.registry.attachment_files, event.request.registry
    references = References(
        registry.storage, registry.attachment_settings, FileChanges.current(files)
    )
    shown: set[str] = set()
    names = _names(found)
    while some := list(islice(names, _PAGE)):
        # Kinto has emptied the table: what is there has been written since.
        shown |= references.showing(some, scan=True).keys()
    transaction.get().addAfterCommitHook(_delete, args=(files, found, shown))


def _stored(kinto_storage: Any) -> Iterator[str | State]:
    """Yield the names of files, and the states of resumable uploads."""
    for row in current_rows(kinto_storage, FILES):
        yield row["name"]
    for upload in UploadStore(kinto_storage).below("*"):
        # The file of an upload that is done has a row.
        if not upload.done:
            yield upload.state
            if upload.name is not None:
                yield upload.name


def _delete(success: bool, files: FileStorage, found: IO[str], shown: Container[str]) -> None:
    # Even without success: Kinto's storage was emptied in an earlier transaction.
    delete_files(files, (name for name in _names(found) if name not in shown))
    for item in _read(found):
        if not isinstance(item, str):
            files.cancel(item)


def _names(found: IO[str]) -> Iterator[str]:
    return (item for item in _read(found) if isinstance(item, str))


def _read(found: IO[str]) -> Iterator[str | State]:
    found.seek(0)
    return map(json.loads, found)

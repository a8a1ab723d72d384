"""The uploads that several requests send: one row each in Kinto's own storage backend, below the
record that the file is for. So any node can take the next request.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kinto.core.storage import Filter, memory
from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import COMPARISON, msec_time

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.database.objects import get, is_transactional, key, lock, statement
from kinto_attachment.database.scan import pages
from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.resumable import State

UPLOADS = "attachments-uploads"

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Where the backend has no row locks, it is this process that has the objects.
_guard = threading.RLock()
# To list the objects of one parent, Kinto goes through all the parents in memory: the records that
# ever had an upload are remembered, so that the others need not be asked about.
_records_in_memory: weakref.WeakKeyDictionary[memory.Storage, set[str]] = (
    weakref.WeakKeyDictionary()
)


@dataclass(frozen=True)
class Unfinished:
    """One upload. Sizes are in bytes, times in milliseconds since 1970."""

    id: str
    record: str
    """The URI of the record."""
    user_id: str | None
    """Who sends it, ``None`` if they are anonymous."""
    filename: str
    mimetype: str
    metadata: str
    """As the client has sent it."""
    length: int | None
    """``None`` as long as the client has not told it."""
    state: State
    """That of the file storage."""
    expires: int
    body: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``data`` and ``permissions`` of the record."""
    sha256: str | None = None
    """What the whole file has to hash to."""
    preconditions: dict[str, str] = field(default_factory=dict)
    """Headers that have to hold in the end, too."""
    name: str | None = None
    """That of the file in the storage, once all of it is there."""
    done: bool = False
    """Whether the record has been written."""
    owner: str | None = None
    """Who may write to it now, and..."""
    leased_until: int = 0
    """...until when."""

    @property
    def stored(self) -> int:
        """How many bytes the file storage has for certain."""
        stored: int = self.state["offset"]
        return stored

    @property
    def offset(self) -> int:
        """How many bytes the client is told to have sent.

        Clients take an upload for successful when that is all of it. So the last byte is not
        acknowledged before the record has been written: they send it again, and the end is tried
        again.
        """
        if self.done or self.length is None:
            return self.stored
        return min(self.stored, max(self.length - 1, 0))

    @property
    def is_expired(self) -> bool:
        return self.expires <= msec_time()

    def is_of(self, user_id: str | None) -> bool:
        return self.user_id == user_id


class UnfinishedUploads:
    """The rows."""

    def __init__(self, storage: Any) -> None:
        """``storage`` is Kinto's storage backend."""
        self._storage = storage

    def exclusively(self) -> AbstractContextManager[Any]:
        """While one looks at a row and changes it, nobody else does, where that does not follow
        from ``locked()``."""
        return nullcontext() if is_transactional(self._storage) else _guard

    def get(self, record: str, upload_id: str) -> Unfinished | None:
        """The upload to the record with the URI ``record``; ``None`` if there is no such one."""
        if not _ID.fullmatch(upload_id):
            return None
        row = get(self._storage, key(UPLOADS, record, upload_id))
        return None if row is None else _upload(row)

    def locked(self, record: str, upload_id: str) -> Unfinished | None:
        """The same, and nobody changes it until the transaction ends."""
        row = lock(self._storage, UPLOADS, record, upload_id)
        return None if row is None else _upload(row)

    def below(self, parent_id: str) -> Iterator[Unfinished]:
        """All the uploads to a record (its URI), or to several (a URI that ends in ``*``)."""
        return self._below(parent_id)

    def expired(self, parent_id: str = "*") -> Iterator[Unfinished]:
        """Those that have rested for too long."""
        return self._below(parent_id, [Filter("expires", msec_time(), COMPARISON.MAX)])

    def save(self, upload: Unfinished, durably: bool = True) -> None:
        """Write the row. Who changes one has read it ``locked()``.

        Unless that is ``durably``, a crash of the database may bring back the one before.
        """
        if not durably:
            _do_not_wait_for_disk(self._storage)
        if isinstance(self._storage, memory.Storage):
            _records_in_memory.setdefault(self._storage, set()).add(upload.record)
        content = asdict(upload)
        self._storage.update(
            resource_name=UPLOADS,
            parent_id=upload.record,
            object_id=content.pop("id"),
            obj=content,
        )

    def remove(self, upload: Unfinished) -> None:
        """Forget the upload, and nothing else."""
        with suppress(ObjectNotFoundError):
            self._storage.delete(
                resource_name=UPLOADS,
                parent_id=upload.record,
                object_id=upload.id,
                with_deleted=False,
            )

    def cancel(self, upload: Unfinished, changes: FileChanges) -> None:
        """End the upload: its row goes, and what is stored of it once that is certain."""
        with self.exclusively():
            found = self.locked(upload.record, upload.id)
            if found is None:
                return
            self.remove(found)
        if not found.done:
            changes.cancel_if_committed(found.state)
            if found.name is not None:
                changes.delete_if_committed(found.name)

    def _below(self, parent_id: str, filters: list[Filter] | None = None) -> Iterator[Unfinished]:
        if self._never_had_one(parent_id):
            return
        for row in pages(self._storage, UPLOADS, parent_id, filters):
            upload = _upload(row)
            # To Kinto, more characters than the last "*" may stand for others.
            prefix, star, _ = parent_id.partition("*")
            if upload.record == parent_id or (star and upload.record.startswith(prefix)):
                yield upload

    def _never_had_one(self, parent_id: str) -> bool:
        return (
            isinstance(self._storage, memory.Storage)
            and not parent_id.endswith("*")
            and parent_id not in _records_in_memory.get(self._storage, ())
        )


def needed(files: FileStorage, upload: Unfinished) -> frozenset[str]:
    """What an upload needs of that which no record shows: names that ``files.list()`` may yield,
    and ids of what ``files.incomplete()`` may."""
    if upload.done:
        return frozenset()
    names = () if upload.name is None else (upload.name,)
    return files.used_by(upload.state).union(names)


def _do_not_wait_for_disk(storage: Any) -> None:
    """The transaction ends before the disk has what it wrote: a crash of the database may lose
    all of it, together with what others wrote later in the same way.

    https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    if is_transactional(storage):
        with storage.client.connect() as connection:
            connection.execute(statement("SET LOCAL synchronous_commit TO OFF"))


def _upload(row: dict[str, Any]) -> Unfinished:
    return Unfinished(**{item.name: row[item.name] for item in fields(Unfinished)})

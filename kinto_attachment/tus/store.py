"""The resumable uploads: a row each in Kinto's own storage backend, below the record that the file
is for. So any node can take the next request.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from kinto.core.storage import Filter
from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import COMPARISON, msec_time

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.database.objects import get, is_transactional, key, lock, statement
from kinto_attachment.database.scan import is_postgresql, may_have_objects, pages
from kinto_attachment.storage import FileStorage, State

UPLOADS = "attachments-uploads"

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# The objects of a backend without row locks are in this process.
_process_lock = threading.RLock()


@dataclass(frozen=True)
class ResumableUpload:
    """One upload. Sizes are in bytes, times in milliseconds since 1970."""

    id: str
    record: str
    """The URI of the record."""
    user_id: str | None
    """The user who began it, ``None`` for an anonymous one."""
    filename: str
    mimetype: str
    metadata: str
    """``Upload-Metadata`` as it was sent."""
    length: int | None
    """``Upload-Length``, ``None`` as long as it is deferred."""
    state: State
    """The file storage's last checkpoint."""
    expires: int
    body: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``data`` and ``permissions`` of the record."""
    sha256: str | None = None
    """The announced digest of the whole file."""
    preconditions: dict[str, str] = field(default_factory=dict)
    """The headers of the creation that must hold at the end, too."""
    name: str | None = None
    """The stored file's name, once the file is whole."""
    done: bool = False
    """Whether the record has been written."""
    owner: str | None = None
    """Who holds the lease,"""
    leased_until: int = 0
    """and until when."""
    lease_expired: bool = False
    """Whether a lease has ever ended by itself: the request that had it may still write."""
    version: int = field(default=0, compare=False)
    """Kinto's timestamp of the row: another one each time that it is written."""

    @property
    def stored(self) -> int:
        """How many bytes the last checkpoint has."""
        stored: int = self.state["offset"]
        return stored

    @property
    def offset(self) -> int:
        """``Upload-Offset``: how many bytes are acknowledged.

        Clients take an upload for done when that is its length. So the last byte is not
        acknowledged before the record has been written: they send it again, and the end is tried
        again.
        """
        if self.done or self.length is None:
            return self.stored
        return min(self.stored, max(self.length - 1, 0))

    @property
    def is_expired(self) -> bool:
        return self.expires <= msec_time()

    def needs(self, files: FileStorage) -> frozenset[str]:
        """Return what no record references but the upload needs: names that ``files.list()`` may
        yield, and ids that ``files.incomplete()`` may."""
        if self.done:
            return frozenset()
        names = () if self.name is None else (self.name,)
        return files.used_by(self.state).union(names)


class UploadStore:
    """The rows of the uploads."""

    def __init__(self, kinto_storage: Any) -> None:
        self._kinto_storage = kinto_storage

    def exclusive(self) -> AbstractContextManager[Any]:
        """Serialise read-modify-write of a row on backends without row locks."""
        return nullcontext() if is_transactional(self._kinto_storage) else _process_lock

    def get(self, record_uri: str, upload_id: str) -> ResumableUpload | None:
        """Return the upload to a record, ``None`` if there is none with that id."""
        if not _ID.fullmatch(upload_id):
            return None
        row = get(self._kinto_storage, key(UPLOADS, record_uri, upload_id))
        return None if row is None else from_row(row)

    def locked(self, record_uri: str, upload_id: str) -> ResumableUpload | None:
        """Return the same, and lock its row until the transaction ends."""
        row = lock(self._kinto_storage, UPLOADS, record_uri, upload_id)
        return None if row is None else from_row(row)

    def below(
        self, parent_id: str, filters: list[Filter] | None = None
    ) -> Iterator[ResumableUpload]:
        """Yield the uploads to a record (its URI), or to several (a URI that ends in ``*``)."""
        if not may_have_objects(self._kinto_storage, UPLOADS, parent_id):
            return
        prefix, star, _ = parent_id.partition("*")
        for row in pages(self._kinto_storage, UPLOADS, parent_id, filters):
            upload = from_row(row)
            # Kinto takes more characters than "*" for placeholders.
            if upload.record == parent_id or (star and upload.record.startswith(prefix)):
                yield upload

    def expired(self, parent_id: str = "*") -> Iterator[ResumableUpload]:
        """Yield those whose time is over."""
        return self.below(parent_id, [Filter("expires", msec_time(), COMPARISON.MAX)])

    def count_unfinished(self) -> int | None:
        """Count the uploads of the site that are neither done nor expired; ``None`` where
        that would take a look at all objects. Raises Kinto's ``BackendError``."""
        if not is_postgresql(self._kinto_storage):
            return None
        count: int = self._kinto_storage.count_all(
            resource_name=UPLOADS,
            parent_id="*",
            filters=[
                Filter("done", False, COMPARISON.EQ),
                Filter("expires", msec_time(), COMPARISON.GT),
            ],
        )
        return count

    def save(self, upload: ResumableUpload, *, durably: bool = True) -> ResumableUpload:
        """Write the row, which the caller has ``locked()`` unless it is new; return it.

        Otherwise than ``durably``, a crash of the database may bring back the row before.
        """
        if not durably:
            _commit_asynchronously(self._kinto_storage)
        content = asdict(upload)
        del content["version"]
        saved = self._kinto_storage.update(
            resource_name=UPLOADS,
            parent_id=upload.record,
            object_id=content.pop("id"),
            obj=content,
        )
        return replace(upload, version=saved["last_modified"])

    def remove(self, upload: ResumableUpload) -> None:
        """Delete the row, and nothing else."""
        with suppress(ObjectNotFoundError):
            self._kinto_storage.delete(
                resource_name=UPLOADS,
                parent_id=upload.record,
                object_id=upload.id,
                with_deleted=False,
            )

    def terminate(self, upload: ResumableUpload, changes: FileChanges) -> None:
        """Delete the row, and what is stored of the upload once the transaction commits."""
        with self.exclusive():
            found = self.locked(upload.record, upload.id)
            if found is None:
                return
            self.remove(found)
        if not found.done:
            changes.cancel_if_committed(found.state)
            if found.name is not None:
                changes.delete_if_committed(found.name)


def from_row(row: dict[str, Any]) -> ResumableUpload:
    """Make the upload of its row."""
    content = {item.name: row[item.name] for item in fields(ResumableUpload) if item.name in row}
    return ResumableUpload(**content, version=row["last_modified"])


def _commit_asynchronously(kinto_storage: Any) -> None:
    """Let the transaction commit before its writes are on the disk.

    A crash of the database may lose them, with what others wrote later in the same way.
    https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    if is_transactional(kinto_storage):
        with kinto_storage.client.connect() as connection:
            connection.execute(statement("SET LOCAL synchronous_commit TO OFF"))

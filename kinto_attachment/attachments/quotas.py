"""Quotas: how many bytes and files the records of the site, of a bucket or of a collection have.

Counted are the files that records reference now, see ``database.usage``. Where transactions roll
back, there is a row with the *count* of each site, bucket or collection that has a quota. A
transaction that changes the holders of files adds the difference to it right before it commits,
and others wait for it only then. Where nothing rolls back, all files are counted each time.

A server without the quota, or one of an earlier version, may have changed files since. So they are
counted anew after an hour, and before anything is refused because of a count that is older than a
minute.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from kinto.core.utils import msec_time

from kinto_attachment.database.objects import is_transactional
from kinto_attachment.database.rows import Row, Rows
from kinto_attachment.database.usage import count, lock_count, size_of, uris
from kinto_attachment.errors import QuotaExceeded
from kinto_attachment.settings import Quota

COUNTS = "attachments-usage"

_HOUR = 60 * 60 * 1000
_MINUTE = 60 * 1000

# The objects of a backend without row locks are in this process.
_process_lock = threading.RLock()


@dataclass
class Change:
    """How a transaction changes what is in the site, a bucket or a collection.

    ``limited`` if the quota is enforced: a client adds a file.
    """

    bytes: int = 0
    files: int = 0
    limited: bool = False


Changes = dict[str, Change]
"""By the URI of what they change."""


@dataclass(frozen=True)
class Room:
    """How many ``bytes`` a file may have, and the refusal of a larger one."""

    bytes: int
    refusal: QuotaExceeded

    def check(self, size: int) -> None:
        """Raise ``QuotaExceeded`` if a file of ``size`` bytes is too large."""
        if size > self.bytes:
            raise self.refusal

    def after(self, offset: int) -> Room:
        """Return what is left of it for the rest of a file."""
        return replace(self, bytes=self.bytes - offset)


class Quotas:
    """The quotas of the settings, by URI, and the counts."""

    def __init__(
        self, kinto_storage: Any, resource_name: str, quotas: Mapping[str, Quota]
    ) -> None:
        """``resource_name`` is that of the rows of files."""
        self._kinto_storage = kinto_storage
        self._resource_name = resource_name
        self._quotas = quotas
        self._rows = Rows(kinto_storage)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._quotas)

    def exclusive(self) -> AbstractContextManager[Any]:
        """Serialise a check and the write after it, where counts have no row to lock."""
        if not self._quotas or is_transactional(self._kinto_storage):
            return nullcontext()
        return _process_lock

    def note(
        self, changes: Changes, row: Row, before: list[str], *, limited: bool = False
    ) -> None:
        """Add to ``changes`` what it changes that the file has the holders of ``row``, instead of
        those ``before``."""
        if not self._quotas:
            return
        old, new = (self._quotas.keys() & uris(holders) for holders in (before, row["holders"]))
        for uri in old ^ new:
            sign = 1 if uri in new else -1
            change = changes.setdefault(uri, Change())
            change.bytes += sign * size_of(row)
            change.files += sign
            change.limited |= limited and sign > 0

    def check(self, changes: Changes) -> None:
        """Count all files, before a write that cannot be rolled back. Raises ``QuotaExceeded``."""
        for uri, change in changes.items():
            self._room(uri, self._count(uri), change).check(0)

    def room(self, changes: Changes, size: int) -> Room:
        """Return how many bytes a file may have that ``changes`` add without its size, of which
        ``size`` are known. It has a quota.

        Counts anew if that is due: to be called in a transaction of its own, which commits.
        """
        rooms = []
        for uri in _in_order(changes):
            room = self._room(uri, self._counted(uri, _HOUR), changes[uri])
            if room.bytes < size:
                room = self._room(uri, self._counted(uri, _MINUTE), changes[uri])
            rooms.append(room)
        return min(rooms, key=lambda room: room.bytes)

    def settle(self, changes: Changes, *, enforce: bool) -> None:
        """Add what the transaction has written to the counts, at its end.

        With ``enforce``, raises ``QuotaExceeded``.
        """
        for uri in _in_order(changes):
            change = changes.pop(uri)
            if not change.bytes and not change.files:
                continue
            row = self._locked(uri)
            if row is None or _is_older(row, _HOUR):
                row = self._count(uri, but=change)
            if enforce and change.limited:
                if self._room(uri, row, change).bytes < 0 and _is_older(row, _MINUTE):
                    row = self._count(uri, but=change)
                self._room(uri, row, change).check(0)
            row["bytes"] += change.bytes
            row["files"] += change.files
            self._rows.put(COUNTS, uri, row)

    def _room(self, uri: str, row: Row, change: Change) -> Room:
        """Return how much larger the file may be that ``change`` adds to the count of ``row``.

        What takes no more than it frees is never refused: a quota may have been lowered.
        """
        quota = self._quotas[uri]
        if quota.files and change.files > 0 and row["files"] + change.files > quota.files:
            return Room(-1, _refusal(uri, f"{quota.files} files"))
        left = sys.maxsize if not quota.bytes else quota.bytes - row["bytes"] - change.bytes
        return Room(max(left, -change.bytes), _refusal(uri, f"{quota.bytes} bytes"))

    def _counted(self, uri: str, age: int) -> Row:
        """Return the count, which is not older than ``age`` milliseconds."""
        if not is_transactional(self._kinto_storage):
            return self._count(uri)
        row = self._rows.get(COUNTS, uri)
        if row is None or _is_older(row, age):
            row = self._locked(uri)
        # Another request may have counted meanwhile.
        if row is None or _is_older(row, age):
            row = self._count(uri)
            self._rows.put(COUNTS, uri, row)
        return row

    def _locked(self, uri: str) -> Row | None:
        """Lock the count, or the right to create it, until the transaction ends."""
        row = self._rows.locked(COUNTS, uri)
        if row is None:
            lock_count(self._kinto_storage, uri)
            row = self._rows.locked(COUNTS, uri)
        return row

    def _count(self, uri: str, but: Change | None = None) -> Row:
        """Count all files, without the change that the transaction has made."""
        used, change = count(self._kinto_storage, self._resource_name, uri), but or Change()
        return {
            "uri": uri,
            "bytes": used.bytes - change.bytes,
            "files": used.files - change.files,
            "counted": msec_time(),
        }


def _in_order(uris: Iterable[str]) -> list[str]:
    """Sort URIs as their counts are locked: the one that most transactions wait for last."""
    return sorted(uris, key=lambda uri: (-uri.count("/"), uri))


def _is_older(row: Row, age: int) -> bool:
    return bool(msec_time() - row["counted"] > age)


def _refusal(uri: str, limit: str) -> QuotaExceeded:
    return QuotaExceeded(limit=limit, where=uri or "this server")

"""The plugin's own rows in Kinto's storage backend, each under the digest of a key.

A row that this transaction has locked or written stays as it is until the transaction ends, unless
it is written here again: it is not read twice.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import transaction
from kinto.core.storage.exceptions import ObjectNotFoundError

from kinto_attachment.locks import Key, Object, get, get_both, is_transactional, lock

PARENT = "__attachments__"
ROW = "row"

Row = dict[str, Any]

# Rows that a transaction remembers: a few of each request, whatever a DELETE goes through.
_REMEMBERED = 100


class Rows:
    """The rows of Kinto's ``storage``. Those that methods return are the caller's to change."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def get(self, resource_name: str, key: str) -> Row | None:
        """The row, ``None`` if there is no such one."""
        known = self._known()
        if (resource_name, key) in known:
            return {**known[resource_name, key]}
        row = get(self._storage, _place(resource_name, key))
        return None if row is None else _content(row)

    def get_beside(
        self, resource_name: str, key: str, other: Key
    ) -> tuple[Row | None, Object | None]:
        """The row, and another object of Kinto's storage as it is now."""
        if (resource_name, key) in self._known():
            return self.get(resource_name, key), get(self._storage, other)
        row, found = get_both(self._storage, _place(resource_name, key), other)
        return None if row is None else _content(row), found

    def locked(self, resource_name: str, key: str) -> Row | None:
        """The same, and nobody else changes it until the transaction ends."""
        known = self._known()
        if (resource_name, key) in known:
            return {**known[resource_name, key]}
        row = lock(self._storage, **_place(resource_name, key))
        if row is None:
            return None
        self._remember(resource_name, key, _content(row))
        return _content(row)

    def put(self, resource_name: str, key: str, row: Row) -> None:
        """Write the row, whether there is one or not."""
        self._storage.update(**_place(resource_name, key), obj=row)
        self._remember(resource_name, key, row)

    def delete(self, resource_name: str, key: str) -> None:
        """Delete the row, if there is one."""
        # Without transactions somebody else may have been faster.
        with suppress(ObjectNotFoundError):
            self._storage.delete(**_place(resource_name, key), with_deleted=False)
        self._known().pop((resource_name, key), None)

    def _remember(self, resource_name: str, key: str, row: Row) -> None:
        known = self._known()
        known[resource_name, key] = {**row}
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]

    def _known(self) -> dict[tuple[str, str], Row]:
        """What this transaction has locked or written. Where nothing is a transaction, nothing
        stays as it is."""
        if not is_transactional(self._storage):
            return {}
        current = transaction.get()
        try:
            known: dict[tuple[str, str], Row] = current.data(self._storage)
        except KeyError:
            known = {}
            current.set_data(self._storage, known)
        return known


def _place(resource_name: str, key: str) -> Key:
    # Kinto takes a parent for a pattern when it has a "*", and for a regular expression in memory.
    parent_id = f"{PARENT}/{hashlib.sha256(key.encode()).hexdigest()}"
    return {"resource_name": resource_name, "parent_id": parent_id, "object_id": ROW}


def _content(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("id", "last_modified")}

"""The plugin's own rows in Kinto's storage backend, each under the digest of a key.

A row that this transaction has locked or written stays as it is until the transaction ends, unless
it is written here again: it is not read twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import transaction
from kinto.core.storage.exceptions import ObjectNotFoundError

from kinto_attachment.database.objects import (
    Key,
    Object,
    get,
    get_both,
    is_transactional,
    key,
    lock,
    statement,
)

PARENT = "__attachments__"
ROW = "row"

Row = dict[str, Any]

_OF_MANY = "resource_name = :resource_name AND id = :object_id AND NOT deleted"
_GET_MANY = f"SELECT parent_id, data FROM objects WHERE {_OF_MANY} AND parent_id = ANY(:parents)"  # noqa: S608 - of constants
# Locked in the order of their names.
_LOCK_MANY = f"{_GET_MANY} ORDER BY data->>'name' COLLATE \"C\" FOR UPDATE"
_DELETE_MANY = f"DELETE FROM objects WHERE {_OF_MANY} AND parent_id = ANY(:parents)"  # noqa: S608 - of constants
# Kinto's trigger puts the time where there is none.
_REPLACE_MANY = f"""
UPDATE objects SET data = CAST(replacing.data AS JSONB), last_modified = NULL
  FROM unnest(CAST(:parents AS TEXT[]), CAST(:contents AS TEXT[])) AS replacing (parent, data)
 WHERE {_OF_MANY} AND parent_id = replacing.parent
"""  # noqa: S608 - of constants


class Rows:
    """The rows of Kinto's ``storage``. Those that methods return are the caller's to change.

    The methods for many are for storages with transactions. They ask one question, and remember
    nothing.
    """

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

    def get_many(self, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        """Those of the rows that there are, by their keys."""
        return self._read_many(_GET_MANY, resource_name, keys)

    def locked(self, resource_name: str, key: str) -> Row | None:
        """The row, and nobody else changes it until the transaction ends."""
        known = self._known()
        if (resource_name, key) in known:
            return {**known[resource_name, key]}
        row = lock(self._storage, **_place(resource_name, key))
        if row is None:
            return None
        self._remember(resource_name, key, _content(row))
        return _content(row)

    def many_locked(self, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        """Those of the rows that there are, by their keys, and nobody else changes them until the
        transaction ends."""
        return self._read_many(_LOCK_MANY, resource_name, keys)

    def put(self, resource_name: str, key: str, row: Row) -> None:
        """Write the row, whether there is one or not."""
        self._storage.update(**_place(resource_name, key), obj=row)
        self._remember(resource_name, key, row)

    def replace_many(self, resource_name: str, rows: Mapping[str, Row]) -> None:
        """Write rows that are there and locked."""
        contents = [json.dumps(row) for row in rows.values()]
        self._write_many(_REPLACE_MANY, resource_name, rows, contents=contents)

    def delete(self, resource_name: str, key: str) -> None:
        """Delete the row, if there is one."""
        # Without transactions somebody else may have been faster.
        with suppress(ObjectNotFoundError):
            self._storage.delete(**_place(resource_name, key), with_deleted=False)
        self._known().pop((resource_name, key), None)

    def delete_many(self, resource_name: str, keys: Collection[str]) -> None:
        """Delete the rows that there are."""
        self._write_many(_DELETE_MANY, resource_name, keys)

    def _read_many(self, query: str, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        by_parent = {_parent(key): key for key in keys}
        with self._storage.client.connect() as connection:
            placeholders = _places(resource_name, by_parent)
            rows = connection.execute(statement(query), placeholders).fetchall()
        return {by_parent[row.parent_id]: row.data for row in rows}

    def _write_many(
        self, query: str, resource_name: str, keys: Collection[str], **placeholders: Any
    ) -> None:
        placeholders |= _places(resource_name, map(_parent, keys))
        with self._storage.client.connect() as connection:
            connection.execute(statement(query), placeholders)
        known = self._known()
        for each in keys:
            known.pop((resource_name, each), None)

    def _remember(self, resource_name: str, key: str, row: Row) -> None:
        self._known()[resource_name, key] = {**row}

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


def _place(resource_name: str, of_row: str) -> Key:
    return key(resource_name, _parent(of_row), ROW)


def _places(resource_name: str, parents: Iterable[str]) -> dict[str, Any]:
    return {"resource_name": resource_name, "object_id": ROW, "parents": [*parents]}


def _parent(of_row: str) -> str:
    # Kinto takes a parent for a pattern when it has a "*", and for a regular expression in memory.
    return f"{PARENT}/{hashlib.sha256(of_row.encode()).hexdigest()}"


def _content(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("id", "last_modified")}

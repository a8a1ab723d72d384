"""The plugin's own rows in Kinto's storage backend, each found by the digest of a key.

A row that the transaction has locked or written cannot be changed by others until it ends, and is
cached until then. A row may be written later than it is put, together with others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import transaction
from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import json

from kinto_attachment.database.objects import (
    GET,
    Key,
    Object,
    as_first,
    execute,
    get,
    get_both,
    is_transactional,
    lock,
    object_of,
)

PARENT = "__attachments__"
ROW = "row"

Row = dict[str, Any]

_MANY = "resource_name = :resource_name AND id = :object_id AND NOT deleted"
_GET_MANY = f"SELECT parent_id, data FROM objects WHERE {_MANY} AND parent_id = ANY(:parents)"  # noqa: S608 - of constants
# See objects.py for the order.
_LOCK_MANY = f"{_GET_MANY} ORDER BY data->>'name' COLLATE \"C\" FOR UPDATE"
_DELETE_MANY = f"DELETE FROM objects WHERE {_MANY} AND parent_id = ANY(:parents)"  # noqa: S608 - of constants
# Kinto's trigger sets the time where it is NULL.
_REPLACE_MANY = f"""
UPDATE objects SET data = CAST(replacing.data AS JSONB), last_modified = NULL
  FROM unnest(CAST(:parents AS TEXT[]), CAST(:contents AS TEXT[])) AS replacing (parent, data)
 WHERE {_MANY} AND parent_id = replacing.parent
"""  # noqa: S608 - of constants
# A row, another object, and the row that the first one names.
_GET_AND_LOCK_NAMED = f"""
  WITH first AS ({GET.replace(":", ":first_")}),
       second AS ({GET}),
       named AS (
SELECT as_epoch(objects.last_modified) AS last_modified, objects.data FROM first, objects
 WHERE id = '{ROW}' AND resource_name = :named AND NOT deleted
   AND parent_id = '{PARENT}/' || encode(sha256(convert_to(first.data->>'name', 'UTF8')), 'hex')
   FOR UPDATE OF objects
       )
SELECT 1 AS number, last_modified, data FROM first
 UNION ALL
SELECT 2 AS number, last_modified, data FROM second
 UNION ALL
SELECT 3 AS number, last_modified, data FROM named
"""  # noqa: S608 - of constants
_PUT_MANY = f"""
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
SELECT '{ROW}', putting.parent, putting.resource, CAST(putting.data AS JSONB), FALSE
  FROM unnest(CAST(:parents AS TEXT[]), CAST(:resources AS TEXT[]), CAST(:contents AS TEXT[]))
       AS putting (parent, resource, data)
    ON CONFLICT (id, parent_id, resource_name) DO UPDATE
   SET data = EXCLUDED.data, deleted = FALSE, last_modified = NULL
"""  # noqa: S608 - of constants


class _Memory(NamedTuple):
    """What a transaction knows of the rows, by resource name and key."""

    known: dict[tuple[str, str], Row]
    """The rows that it has locked or put."""
    unwritten: dict[tuple[str, str], None]
    """Which of them are not in the database yet, in the order to write them."""


class Rows:
    """Reads and writes rows. Callers may change the rows that methods return.

    Methods for many rows need a backend with transactions. They take one query, and cache nothing.
    """

    def __init__(self, kinto_storage: Any) -> None:
        self._kinto_storage = kinto_storage
        self._is_together = False

    def get(self, resource_name: str, key: str) -> Row | None:
        """Return the row, ``None`` if it does not exist."""
        cached = self._memory().known.get((resource_name, key))
        if cached is not None:
            return {**cached}
        return _content(get(self._kinto_storage, _object_key(resource_name, key)))

    def get_with_object(
        self, resource_name: str, key: str, other: Key, *, lock_named: str | None = None
    ) -> tuple[Row | None, Object | None]:
        """Return the row and another object, in one query where possible.

        With ``lock_named``, for a backend with transactions, the same query locks the row of that
        kind whose key is the ``name`` in the first one.
        """
        if (resource_name, key) in self._memory().known:
            return self.get(resource_name, key), get(self._kinto_storage, other)
        row_key = _object_key(resource_name, key)
        if lock_named is None:
            row, another = get_both(self._kinto_storage, row_key, other)
            return _content(row), another
        parameters = {**other, **as_first(row_key), "named": lock_named}
        with self._kinto_storage.client.connect() as session:
            rows = {
                each.number: each for each in execute(session, _GET_AND_LOCK_NAMED, parameters)
            }
        if 3 in rows:
            self._memory().known.setdefault((lock_named, rows[1].data["name"]), rows[3].data)
        return _content(object_of(rows.get(1), row_key)), object_of(rows.get(2), other)

    def has_unwritten(self, resource_name: str) -> bool:
        """Whether this transaction has put a row of that kind which is not in the database yet."""
        return any(name == resource_name for name, _ in self._memory().unwritten)

    def get_many(self, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        """Return the rows that exist, by their keys."""
        return self._read_many(_GET_MANY, resource_name, keys)

    def locked(self, resource_name: str, key: str) -> Row | None:
        """Lock the row and return it, ``None`` if it does not exist."""
        known = self._memory().known
        if (resource_name, key) not in known:
            row = _content(lock(self._kinto_storage, **_object_key(resource_name, key)))
            if row is None:
                return None
            known[resource_name, key] = row
        return {**known[resource_name, key]}

    def many_locked(self, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        """Lock the rows that exist and return them, by their keys."""
        return self._read_many(_LOCK_MANY, resource_name, keys)

    def put(self, resource_name: str, key: str, row: Row) -> None:
        """Create or replace the row."""
        self.put_later(resource_name, key, row)
        if not self._is_together:
            self.flush()

    def put_later(self, resource_name: str, key: str, row: Row) -> None:
        """Create or replace the row, in the database with the next one that is put, or before
        another statement needs it. Without transactions, at once. The caller sees to a
        ``flush()`` before the commit."""
        if not is_transactional(self._kinto_storage):
            self._kinto_storage.update(**_object_key(resource_name, key), obj=row)
            return
        memory = self._memory()
        memory.known[resource_name, key] = {**row}
        memory.unwritten[resource_name, key] = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the rows that are put in the block in one statement, at its end."""
        self._is_together = True
        try:
            yield
        finally:
            self._is_together = False
        self.flush()

    def flush(self) -> None:
        """Write what was put and is not in the database yet."""
        known, unwritten = self._memory()
        if not unwritten:
            return
        keys = [*unwritten]
        unwritten.clear()
        parameters = {
            "parents": [_parent(key) for _, key in keys],
            "resources": [resource_name for resource_name, _ in keys],
            "contents": [json.dumps(known[each]) for each in keys],
        }
        with self._kinto_storage.client.connect() as session:
            execute(session, _PUT_MANY, parameters)

    def replace_many(self, resource_name: str, rows: Mapping[str, Row]) -> None:
        """Replace rows that exist and are locked."""
        contents = [json.dumps(row) for row in rows.values()]
        self._write_many(_REPLACE_MANY, resource_name, rows, contents=contents)

    def delete(self, resource_name: str, key: str) -> None:
        """Delete the row, if it exists."""
        # Without transactions, another request may have deleted it since it was read.
        with suppress(ObjectNotFoundError):
            self._kinto_storage.delete(**_object_key(resource_name, key), with_deleted=False)
        for kept in self._memory():
            kept.pop((resource_name, key), None)

    def delete_many(self, resource_name: str, keys: Collection[str]) -> None:
        """Delete the rows that exist."""
        self._write_many(_DELETE_MANY, resource_name, keys)

    def _read_many(self, query: str, resource_name: str, keys: Collection[str]) -> dict[str, Row]:
        self.flush()
        by_parent = {_parent(key): key for key in keys}
        parameters = _parameters(resource_name, by_parent)
        with self._kinto_storage.client.connect() as session:
            rows = execute(session, query, parameters).fetchall()
        return {by_parent[row.parent_id]: row.data for row in rows}

    def _write_many(
        self, query: str, resource_name: str, keys: Collection[str], **parameters: Any
    ) -> None:
        self.flush()
        parameters |= _parameters(resource_name, map(_parent, keys))
        with self._kinto_storage.client.connect() as session:
            execute(session, query, parameters)
        known = self._memory().known
        for key in keys:
            known.pop((resource_name, key), None)

    def _memory(self) -> _Memory:
        """Return what this transaction knows; nothing without transactions, for nothing is locked
        then."""
        if not is_transactional(self._kinto_storage):
            return _Memory({}, {})
        current = transaction.get()
        try:
            memory: _Memory = current.data(self._kinto_storage)
        except KeyError:
            memory = _Memory({}, {})
            current.set_data(self._kinto_storage, memory)
        return memory


def _object_key(resource_name: str, key: str) -> Key:
    return {"resource_name": resource_name, "parent_id": _parent(key), "object_id": ROW}


def _parameters(resource_name: str, parents: Iterable[str]) -> dict[str, Any]:
    return {"resource_name": resource_name, "object_id": ROW, "parents": [*parents]}


def _parent(key: str) -> str:
    # Kinto reads a "*" in a parent_id as a pattern, in memory even as a regular expression.
    return f"{PARENT}/{hashlib.sha256(key.encode()).hexdigest()}"


def _content(found: Object | None) -> Row | None:
    if found is None:
        return None
    return {name: value for name, value in found.items() if name not in ("id", "last_modified")}

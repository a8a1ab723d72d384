"""Objects of Kinto's storage backend, read and locked by their key.

A lock is a row lock of PostgreSQL, and lasts until the transaction ends. Other backends have none:
there these functions only read. Transactions take locks in this order, to avoid deadlocks:

1. the collection: shared to write a record in it, exclusive to delete it;
2. the record;
3. rows of files, those of one record (or of one page of deleted records) sorted by name;
4. rows of records ("holdings"), written without being locked first;
5. the row of a resumable upload: alone, or under the lock of its record or collection;
6. the counts of quotas, last of all: those of collections, then of buckets, then of the site, each
   sorted by URI.

Two cases differ: a batch takes 2 to 4 anew for each record, in the order of its events; and when a
collection or bucket is deleted, 3 to 5 come before the records, which are deleted last.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import sqlalchemy

Key = dict[str, str]
"""``resource_name``, ``parent_id`` and ``object_id``, as Kinto's storage methods take them."""
Object = dict[str, Any]

GET = """
SELECT as_epoch(last_modified) AS last_modified, data FROM objects
 WHERE id = :object_id AND parent_id = :parent_id AND resource_name = :resource_name
   AND NOT deleted
"""
# Reads what it locks: a second query would cost as much as the first.
_LOCK = f"{GET} FOR UPDATE"


def _both(lock_first: str = "", lock_second: str = "") -> str:
    """Build the query for two objects, which PostgreSQL reads, and locks, in this order."""
    return f"""
  WITH first AS ({GET.replace(":", ":first_")} {lock_first}),
       second AS ({GET} {lock_second})
SELECT TRUE AS is_first, last_modified, data FROM first
 UNION ALL
SELECT FALSE AS is_first, last_modified, data FROM second
"""  # noqa: S608 - of constants


_GET_BOTH = _both()
_LOCK_WITH_PARENT = _both("FOR SHARE", "FOR UPDATE")


def key(resource_name: str, parent_id: str, object_id: str) -> Key:
    """Build a ``Key``."""
    return {"resource_name": resource_name, "parent_id": parent_id, "object_id": object_id}


def is_transactional(kinto_storage: Any) -> bool:
    """Whether writes to the storage backend can be rolled back."""
    client = getattr(kinto_storage, "client", None)
    return client is not None and not client.commit_manually


def get(kinto_storage: Any, of_object: Key) -> Object | None:
    """Return the object, ``None`` if it does not exist."""
    try:
        found: Object = kinto_storage.get(**of_object)
    except ObjectNotFoundError:
        return None
    return found


def get_both(kinto_storage: Any, first: Key, second: Key) -> tuple[Object | None, Object | None]:
    """Return two objects, ``None`` for one that does not exist, in one query where possible."""
    return _read_both(kinto_storage, _GET_BOTH, first, second)


def lock(kinto_storage: Any, resource_name: str, parent_id: str, object_id: str) -> Object | None:
    """Lock an object against changes; return it as it is then, ``None`` if it does not exist."""
    of_object = key(resource_name, parent_id, object_id)
    if not is_transactional(kinto_storage):
        return get(kinto_storage, of_object)
    with kinto_storage.client.connect() as session:
        row = execute(session, _LOCK, of_object).fetchone()
    return object_of(row, of_object)


def lock_with_parent(
    kinto_storage: Any, parent: Key, child: Key
) -> tuple[Object | None, Object | None]:
    """Lock ``child`` against changes, and ``parent`` against deletion, which others may do too.

    Returns both as they are then, ``None`` for one that does not exist.
    """
    return _read_both(kinto_storage, _LOCK_WITH_PARENT, parent, child)


def execute(session: Any, query: str, parameters: dict[str, Any]) -> Any:
    """Execute a query, with parameters as ``:name``, and return SQLAlchemy's result.

    For those of each upload: half of what ``session.execute()`` costs is to prepare the query.
    """
    return session.connection().exec_driver_sql(_of_driver(query), parameters)


@functools.cache
def _of_driver(query: str) -> str:
    """Write parameters as the drivers of PostgreSQL do (PEP 249, ``pyformat``)."""
    return re.sub(r"(?<!:):(\w+)", r"%(\1)s", query.replace("%", "%%"))


@functools.cache
def statement(query: str) -> Any:
    """Return the query as SQLAlchemy executes it, parsed once: that takes as long as some queries
    do."""
    return sqlalchemy.text(query)


def _read_both(
    kinto_storage: Any, query: str, first: Key, second: Key
) -> tuple[Object | None, Object | None]:
    if not is_transactional(kinto_storage):
        return get(kinto_storage, first), get(kinto_storage, second)
    parameters = {**second, **as_first(first)}
    with kinto_storage.client.connect() as session:
        rows = {row.is_first: row for row in execute(session, query, parameters)}
    return object_of(rows.get(True), first), object_of(rows.get(False), second)


def as_first(first: Key) -> Key:
    """Return the parameters of the first of two objects in a query."""
    return {f"first_{name}": value for name, value in first.items()}


def object_of(row: Any, of_object: Key) -> Object | None:
    """Turn a row of ``GET`` into what Kinto's storage returns."""
    if row is None:
        return None
    return {**row.data, "id": of_object["object_id"], "last_modified": row.last_modified}

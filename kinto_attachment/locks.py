"""Row locks, and two objects in one question, which Kinto's storage interface does not have.

On PostgreSQL the locks are those that Kinto's own writes of the same rows take: whoever holds one
sees the row as it will be when it writes. Kinto's DELETE takes its locks in another order than its
PATCH, and than we do; PostgreSQL then ends one of the two, which answers 503. Other backends have
no transactions, and nothing to lock.
"""

from __future__ import annotations

import functools
from typing import Any

from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import sqlalchemy

# Read together with the lock: another query for it would cost as much as the lock.
_ROW = """
SELECT as_epoch(last_modified) AS last_modified, data FROM objects
 WHERE id = :object_id AND parent_id = :parent_id AND resource_name = :resource_name
   AND NOT deleted
"""
_LOCK = f"{_ROW} FOR UPDATE"


def _both(of_first: str = "", of_second: str = "") -> str:
    return f"""
  WITH first AS ({_ROW.replace(":", ":first_")} {of_first}),
       second AS ({_ROW} {of_second})
SELECT TRUE AS is_first, last_modified, data FROM first
 UNION ALL
SELECT FALSE AS is_first, last_modified, data FROM second
"""  # noqa: S608 - of constants


_GET_BOTH = _both()
# In this order, as everybody takes them.
_LOCK_WITH_PARENT = _both("FOR SHARE", "FOR UPDATE")

Key = dict[str, str]
"""Which object: its ``resource_name``, ``parent_id`` and ``object_id``."""
Object = dict[str, Any]


def is_transactional(storage: Any) -> bool:
    """Whether what is written to Kinto's ``storage`` can still be rolled back."""
    client = getattr(storage, "client", None)
    return client is not None and not client.commit_manually


def key(resource_name: str, parent_id: str, object_id: str) -> Key:
    return {"resource_name": resource_name, "parent_id": parent_id, "object_id": object_id}


def lock(storage: Any, resource_name: str, parent_id: str, object_id: str) -> Object | None:
    """Until the transaction ends, nobody else can change that object.

    Returns it as it is by now, ``None`` if there is none.
    """
    of_object = key(resource_name, parent_id, object_id)
    if not is_transactional(storage):
        return get(storage, of_object)
    with storage.client.connect() as connection:
        row = connection.execute(_text(_LOCK), of_object).fetchone()
    return None if row is None else _object(row, of_object)


def lock_with_parent(storage: Any, parent: Key, child: Key) -> tuple[Object | None, Object | None]:
    """Until the transaction ends, nobody else can change ``child``, nor delete ``parent``, which
    others may lock likewise.

    Returns both as they are by now, ``None`` for one that is not there.
    """
    return _read_both(storage, _LOCK_WITH_PARENT, parent, child)


def get(storage: Any, of_object: Key) -> Object | None:
    """The object, ``None`` if it is not there."""
    try:
        found: Object = storage.get(**of_object)
    except ObjectNotFoundError:
        return None
    return found


def get_both(storage: Any, first: Key, second: Key) -> tuple[Object | None, Object | None]:
    """The two objects, as ``get()`` has them; one question where there is a database to ask."""
    return _read_both(storage, _GET_BOTH, first, second)


def do_not_wait_for_disk(storage: Any) -> None:
    """The transaction ends before the disk has what it wrote: a crash of the database may lose
    all of it, together with what others wrote later in the same way.

    https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    if is_transactional(storage):
        with storage.client.connect() as connection:
            connection.execute(_text("SET LOCAL synchronous_commit TO OFF"))


def _read_both(
    storage: Any, query: str, first: Key, second: Key
) -> tuple[Object | None, Object | None]:
    if not is_transactional(storage):
        return get(storage, first), get(storage, second)
    placeholders = {**second, **{f"first_{name}": value for name, value in first.items()}}
    with storage.client.connect() as connection:
        rows = connection.execute(_text(query), placeholders).fetchall()
    found = {row.is_first: row for row in rows}
    return (
        _object(found[True], first) if True in found else None,
        _object(found[False], second) if False in found else None,
    )


@functools.cache
def _text(query: str) -> Any:
    # Looking for the placeholders takes as long as some questions to the database.
    return sqlalchemy.text(query)


def _object(row: Any, of_object: Key) -> Object:
    # As Kinto's storage returns it.
    return {**row.data, "id": of_object["object_id"], "last_modified": row.last_modified}

"""Objects of Kinto's storage by their key, two of them in one question where there is a database
to ask."""

from __future__ import annotations

import functools
from typing import Any

from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import sqlalchemy

Key = dict[str, str]
"""Which object: its ``resource_name``, ``parent_id`` and ``object_id``."""
Object = dict[str, Any]

SELECT = """
SELECT as_epoch(last_modified) AS last_modified, data FROM objects
 WHERE id = :object_id AND parent_id = :parent_id AND resource_name = :resource_name
   AND NOT deleted
"""


def select_both(of_first: str = "", of_second: str = "") -> str:
    """The statement for two objects. What is given is appended to the query of each, which are
    made in this order."""
    return f"""
  WITH first AS ({SELECT.replace(":", ":first_")} {of_first}),
       second AS ({SELECT} {of_second})
SELECT TRUE AS is_first, last_modified, data FROM first
 UNION ALL
SELECT FALSE AS is_first, last_modified, data FROM second
"""  # noqa: S608 - of constants


_GET_BOTH = select_both()
# Read together with the lock: another query for it would cost as much as the lock.
_LOCK = f"{SELECT} FOR UPDATE"
# In this order, as everybody takes them.
_LOCK_WITH_PARENT = select_both("FOR SHARE", "FOR UPDATE")


def key(resource_name: str, parent_id: str, object_id: str) -> Key:
    return {"resource_name": resource_name, "parent_id": parent_id, "object_id": object_id}


def is_transactional(storage: Any) -> bool:
    """Whether what is written to Kinto's ``storage`` can still be rolled back."""
    client = getattr(storage, "client", None)
    return client is not None and not client.commit_manually


def get(storage: Any, of_object: Key) -> Object | None:
    """The object, ``None`` if it is not there."""
    try:
        found: Object = storage.get(**of_object)
    except ObjectNotFoundError:
        return None
    return found


def get_both(storage: Any, first: Key, second: Key) -> tuple[Object | None, Object | None]:
    """The two objects, as ``get()`` has them."""
    return read_both(storage, _GET_BOTH, first, second)


def read_both(
    storage: Any, query: str, first: Key, second: Key
) -> tuple[Object | None, Object | None]:
    """The same, with a query of ``select_both()``."""
    if not is_transactional(storage):
        return get(storage, first), get(storage, second)
    placeholders = {**second, **{f"first_{name}": value for name, value in first.items()}}
    with storage.client.connect() as connection:
        rows = connection.execute(statement(query), placeholders).fetchall()
    found = {row.is_first: row for row in rows}
    return (
        as_object(found[True], first) if True in found else None,
        as_object(found[False], second) if False in found else None,
    )


@functools.cache
def statement(query: str) -> Any:
    """What SQLAlchemy executes."""
    # Looking for the placeholders takes as long as some questions to the database.
    return sqlalchemy.text(query)


def as_object(row: Any, of_object: Key) -> Object:
    """A row of ``SELECT`` as Kinto's storage returns it."""
    return {**row.data, "id": of_object["object_id"], "last_modified": row.last_modified}


def lock(storage: Any, resource_name: str, parent_id: str, object_id: str) -> Object | None:
    """Until the transaction ends, nobody else can change that object.

    Returns it as it is by now, ``None`` if there is none.
    """
    of_object = key(resource_name, parent_id, object_id)
    if not is_transactional(storage):
        return get(storage, of_object)
    with storage.client.connect() as connection:
        row = connection.execute(statement(_LOCK), of_object).fetchone()
    return None if row is None else as_object(row, of_object)


def lock_with_parent(storage: Any, parent: Key, child: Key) -> tuple[Object | None, Object | None]:
    """Until the transaction ends, nobody else can change ``child``, nor delete ``parent``, which
    others may lock likewise.

    Returns both as they are by now, ``None`` for one that is not there.
    """
    return read_both(storage, _LOCK_WITH_PARENT, parent, child)

"""Row locks, which Kinto's storage interface does not have.

On PostgreSQL they are those that Kinto's own writes of the same rows take: whoever holds one sees
the row as it will be when it writes. Kinto's DELETE takes its locks in another order than its
PATCH, and than we do; PostgreSQL then ends one of the two, which answers 503. Other backends have
no transactions, and nothing to lock.
"""

from __future__ import annotations

from typing import Any

from kinto_attachment.objects import (
    SELECT,
    Key,
    Object,
    as_object,
    get,
    is_transactional,
    key,
    read_both,
    select_both,
    statement,
)

# Read together with the lock: another query for it would cost as much as the lock.
_LOCK = f"{SELECT} FOR UPDATE"
# In this order, as everybody takes them.
_LOCK_WITH_PARENT = select_both("FOR SHARE", "FOR UPDATE")


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

"""Row locks, which Kinto's storage interface does not have.

On PostgreSQL these are the locks that Kinto's own writes of the same rows take: whoever holds one
sees the row as it will be when it writes. Kinto's DELETE takes its locks in another order than its
PATCH, and than we do; PostgreSQL then ends one of the two, which answers 503. Other backends have
no transactions, and nothing to lock.
"""

from __future__ import annotations

from typing import Any

from kinto.core.storage.exceptions import ObjectNotFoundError
from kinto.core.utils import sqlalchemy

# Read together with the lock: another query for it would cost as much as the lock.
_QUERY = """
SELECT as_epoch(last_modified) AS last_modified, data FROM objects
 WHERE id = :object_id AND parent_id = :parent_id AND resource_name = :resource_name
   AND NOT deleted
   FOR {strength}
"""


def is_transactional(storage: Any) -> bool:
    """Whether what is written to Kinto's ``storage`` can still be rolled back."""
    client = getattr(storage, "client", None)
    return client is not None and not client.commit_manually


def lock(
    storage: Any, resource_name: str, parent_id: str, object_id: str
) -> dict[str, Any] | None:
    """Until the transaction ends, nobody else can change that object.

    Returns it as it is by now, ``None`` if there is none.
    """
    return _lock("UPDATE", storage, resource_name, parent_id, object_id)


def lock_existence(
    storage: Any, resource_name: str, parent_id: str, object_id: str
) -> dict[str, Any] | None:
    """Until the transaction ends, nobody can delete that object; others may lock it likewise.

    Returns it as it is by now, ``None`` if there is none.
    """
    return _lock("SHARE", storage, resource_name, parent_id, object_id)


def _lock(
    strength: str, storage: Any, resource_name: str, parent_id: str, object_id: str
) -> dict[str, Any] | None:
    key = {"resource_name": resource_name, "parent_id": parent_id, "object_id": object_id}
    if not is_transactional(storage):
        try:
            found: dict[str, Any] = storage.get(**key)
        except ObjectNotFoundError:
            return None
        return found
    query = sqlalchemy.text(_QUERY.format(strength=strength))
    with storage.client.connect() as connection:
        row = connection.execute(query, key).fetchone()
    if row is None:
        return None
    # As Kinto's storage returns it.
    return {**row.data, "id": object_id, "last_modified": row.last_modified}

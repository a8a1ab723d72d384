"""Find records by the last path segment of their attachment's location, with an index.

The index is on Kinto's table ``objects``, of the MD5 digest of the segment: a client chooses the
location, and PostgreSQL refuses to index long values. ``kinto migrate`` creates it. Where it is
missing, requests do not search: that would read the whole table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import md5
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from kinto.core.storage import memory
from kinto.core.utils import sqlalchemy

from kinto_attachment.database.objects import execute, statement
from kinto_attachment.database.scan import is_postgresql, unpooled

logger = logging.getLogger(__name__)

NAME = "idx_objects_attachment_location"

_LOCATION = "(data->'attachment'->>'location')"
# Not by a regular expression, whose time on a location of many slashes is quadratic.
_DIGEST = f"md5(reverse(split_part(reverse({_LOCATION}), '/', 1)))"
_IS_INDEXED = f"resource_name = 'record' AND NOT deleted AND {_LOCATION} IS NOT NULL"

_CREATE = f"CREATE INDEX CONCURRENTLY {NAME} ON objects ({_DIGEST}) WHERE {_IS_INDEXED}"
_DROP = f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}"
_ANALYZE = "ANALYZE objects"
_IS_VALID = f"""
SELECT EXISTS (
    SELECT FROM pg_index WHERE indexrelid = (SELECT to_regclass('{NAME}')) AND indisvalid
)
"""  # noqa: S608 - of constants
_WITH_DIGEST = f"""
SELECT parent_id, id, data->'attachment' AS attachment FROM objects
 WHERE {_IS_INDEXED} AND {_DIGEST} = ANY(:digests)
"""  # noqa: S608 - of constants
# The command waits for transactions that have begun before it; others can write meanwhile.
_SETTINGS = "SET lock_timeout = '60s'"

_CHECK_SECONDS = 60
# When the index was checked last, and the result, by the client of Kinto's storage: a check for
# each search would cost more than the search.
_checked: WeakKeyDictionary[Any, tuple[float, bool]] = WeakKeyDictionary()


class Found(NamedTuple):
    """A record that has an attachment."""

    parent_id: str
    id: str
    attachment: dict[str, Any]


class IndexMissing(Exception):
    """The records cannot be asked: the index is missing, or the backend has none."""


def records_ending_with(
    kinto_storage: Any, segments: Collection[str], *, scan: bool = False
) -> list[Found]:
    """Return the records whose location's last segment is one of ``segments``.

    With ``scan``, reads the whole table where there is no index. Raises ``IndexMissing``, and
    Kinto's ``BackendError``.
    """
    if isinstance(kinto_storage, memory.Storage):
        return list(_in_memory(kinto_storage, segments))
    if not is_postgresql(kinto_storage):
        raise IndexMissing()
    digests = [md5(each.encode(), usedforsecurity=False).hexdigest() for each in segments]
    client = kinto_storage.client
    with client.connect(readonly=True) as session:
        if not scan and not _was_valid(client, session):
            raise IndexMissing()
        rows = execute(session, _WITH_DIGEST, {"digests": digests}).fetchall()
    return [Found(row.parent_id, row.id, row.attachment) for row in rows]


def is_valid(connection: Any) -> bool:
    """Whether the index can be used."""
    return bool(connection.execute(statement(_IS_VALID)).scalar())


def _was_valid(client: Any, connection: Any) -> bool:
    """Whether the index can be used, as of at most ``_CHECK_SECONDS`` ago."""
    checked_at, valid = _checked.get(client, (0.0, False))
    now = time.monotonic()
    if now - checked_at > _CHECK_SECONDS or not checked_at:
        valid = is_valid(connection)
        _checked[client] = (now, valid)
    return valid


def create(client: Any) -> None:
    """Create the index, or create it again if an earlier run was interrupted; then update the
    statistics of the table.

    Others may read and write meanwhile. This thread must not have an open transaction: the command
    would wait for it. Raises Kinto's ``BackendError``.
    https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
    """
    with _autocommit(client) as connection:
        if is_valid(connection):
            logger.info("The index of attachments' locations is there.")
        else:
            connection.execute(sqlalchemy.text(_DROP))
            connection.execute(sqlalchemy.text(_CREATE))
            logger.info("The index of attachments' locations has been created.")
        # Until autovacuum does it, queries for many of the rows that a migration has written would
        # read all of these.
        connection.execute(sqlalchemy.text(_ANALYZE))


def drop(client: Any) -> None:
    """Drop the index. Raises Kinto's ``BackendError``."""
    with _autocommit(client) as connection:
        connection.execute(sqlalchemy.text(_DROP))


@contextmanager
def _autocommit(client: Any) -> Iterator[Any]:
    """Open a connection without transactions: the command cannot run in one."""
    with unpooled(client, isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text(_SETTINGS))
        yield connection


def _in_memory(kinto_storage: memory.Storage, segments: Collection[str]) -> Iterator[Found]:
    # list_all("*") would leave an empty object of each row behind.
    ends = tuple(segments)
    with _lock_of(kinto_storage):
        for parent_id, resources in kinto_storage._store.items():
            # Most parents are those of the plugin's rows, and have no records.
            if "record" not in resources:
                continue
            for record in resources["record"].values():
                attachment = record.get("attachment")
                if not isinstance(attachment, dict):
                    continue
                location = attachment.get("location")
                if (
                    isinstance(location, str)
                    and location.endswith(ends)
                    and location.rpartition("/")[2] in segments
                ):
                    yield Found(parent_id, record["id"], {**attachment})


def _lock_of(kinto_storage: memory.Storage) -> Any:
    """Return the lock of Kinto's ``@synchronized``, which makes it when it is first needed."""
    if not hasattr(kinto_storage, "__lock__"):
        kinto_storage.__lock__ = RLock()
    return kinto_storage.__lock__

"""What is read straight from Kinto's tables in PostgreSQL, where its storage interface has no way
to.

Kinto's storage lists one parent at a time, and answers with lists. Those who look at everything
(``kinto-attachment check``, a flush) want one pass in constant memory: a server-side cursor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kinto.core.storage import Filter, Sort, memory
from kinto.core.storage.exceptions import BackendError
from kinto.core.utils import COMPARISON, sqlalchemy

from kinto_attachment.database import SQL_ERRORS

# Objects read at a time.
PAGE = 500
# Rows fetched at a time.
_ROWS = 1000

_RECORDS = """
SELECT parent_id || '/records/' || id AS uri, data->'attachment' AS attachment
  FROM objects
 WHERE resource_name = 'record' AND NOT deleted
   AND jsonb_typeof(data->'attachment') = 'object'
 ORDER BY parent_id, id
"""
_OURS = r"""
SELECT data FROM objects
 WHERE resource_name = :resource_name AND NOT deleted
   AND parent_id LIKE '\_\_attachments\_\_/%'
"""
_UPLOADS = """
SELECT data FROM objects WHERE resource_name = 'attachments-uploads' AND NOT deleted
"""


def pages(
    storage: Any, resource_name: str, parent_id: str, filters: list[Filter] | None = None
) -> Iterator[dict[str, Any]]:
    """All the objects of a parent.

    A page may be shorter than asked for: ``storage_max_fetch_size`` limits it.
    """
    rules = None
    while True:
        page = storage.list_all(
            resource_name=resource_name,
            parent_id=parent_id,
            filters=filters,
            sorting=[Sort("id", 1)],
            pagination_rules=rules,
            limit=PAGE,
        )
        if not page:
            return
        yield from page
        rules = [[*(filters or []), Filter("id", page[-1]["id"], COMPARISON.GT)]]


def may_have_objects(kinto_storage: Any, resource_name: str, parent_id: str) -> bool:
    """Whether it is worth listing the objects of a parent.

    To list them, Kinto's memory backend goes through all parents; so look at the one first.
    """
    if not isinstance(kinto_storage, memory.Storage) or parent_id.endswith("*"):
        return True
    return bool(kinto_storage._store.get(parent_id, {}).get(resource_name))


def is_postgresql(storage: Any) -> bool:
    """Whether Kinto's ``storage`` is PostgreSQL."""
    return hasattr(storage, "client")


@contextlib.contextmanager
def snapshot(storage: Any) -> Iterator[Any]:
    """A connection of its own: all that is read there is of the moment of the first read.

    https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ
    Raises Kinto's ``BackendError``.
    """
    engine = storage.client.session_factory().get_bind()
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with errors(), engine.connect().execution_options(**options) as connection:
        yield connection


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Raise Kinto's ``BackendError`` where SQLAlchemy raises errors of its own."""
    try:
        yield
    except SQL_ERRORS as error:
        message = f"the database cannot be read: {getattr(error, 'orig', None) or error}"
        raise BackendError(original=error, message=message) from error


def records_with_attachment(connection: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The URI and the ``attachment`` of every record that has one, in all buckets.

    Records of a collection that is not there any more are among them: Kinto shows them again
    with the next collection of that name.
    """
    for row in _stream(connection, _RECORDS):
        yield row.uri, row.attachment


def rows_of_ours(connection: Any, resource_name: str) -> Iterator[dict[str, Any]]:
    """Every row of that name that ``References`` keeps."""
    for row in _stream(connection, _OURS, resource_name=resource_name):
        yield row.data


def rows_of_uploads(connection: Any) -> Iterator[dict[str, Any]]:
    """The row of every resumable upload, without its id."""
    for row in _stream(connection, _UPLOADS):
        yield row.data


def _stream(connection: Any, query: str, **placeholders: Any) -> Iterator[Any]:
    options = {"stream_results": True, "yield_per": _ROWS}
    yield from connection.execute(sqlalchemy.text(query), placeholders, execution_options=options)

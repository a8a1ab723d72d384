"""Scans over many objects of Kinto's storage backend, in constant memory.

Kinto's storage interface lists the objects of one parent, a page at a time. Whoever needs those of
all parents (``kinto-attachment check``, a flush) reads PostgreSQL's tables with a server-side
cursor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kinto.core.storage import Filter, Sort, memory
from kinto.core.storage.exceptions import BackendError
from kinto.core.utils import COMPARISON, sqlalchemy

from kinto_attachment.database import SQL_ERRORS
from kinto_attachment.database.objects import Object
from kinto_attachment.database.rows import PARENT, Row

PAGE = 500
"""Objects per page."""
_FETCHED = 1000
"""Rows that the cursor fetches at a time."""
_CONNECT_SECONDS = 5

_RECORDS = """
SELECT parent_id || '/records/' || id AS uri, data->'attachment' AS attachment
  FROM objects
 WHERE resource_name = 'record' AND NOT deleted
   AND jsonb_typeof(data->'attachment') = 'object'
 ORDER BY parent_id, id
"""
_ROWS = """
SELECT data FROM objects
 WHERE resource_name = :resource_name AND NOT deleted AND starts_with(parent_id, :parents)
"""


def pages(
    kinto_storage: Any, resource_name: str, parent_id: str, filters: list[Filter] | None = None
) -> Iterator[Object]:
    """Yield all the objects of a parent, reading them page by page.

    Continues after pages shorter than ``PAGE``, which ``storage_max_fetch_size`` may cause.
    """
    rules = None
    while True:
        page = kinto_storage.list_all(
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


def is_postgresql(kinto_storage: Any) -> bool:
    """Whether Kinto's storage backend is PostgreSQL."""
    return hasattr(kinto_storage, "client")


@contextlib.contextmanager
def snapshot(kinto_storage: Any) -> Iterator[Any]:
    """Open a connection on which all queries see the database as of the first one.

    https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ
    Raises Kinto's ``BackendError``.
    """
    engine = kinto_storage.client.session_factory().get_bind()
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with errors(), engine.connect().execution_options(**options) as connection:
        yield connection


@contextlib.contextmanager
def unpooled(client: Any, **options: Any) -> Iterator[Any]:
    """Open a connection to PostgreSQL of its own, which no transaction of Kinto sees, and no
    process that is forked inherits.

    ``client`` is that of Kinto's storage; ``options`` are SQLAlchemy's execution options. Raises
    Kinto's ``BackendError``.
    """
    engine = sqlalchemy.create_engine(
        client.session_factory.get_bind().url,
        poolclass=sqlalchemy.pool.NullPool,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )
    with errors(), engine.connect().execution_options(**options) as connection:
        yield connection


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Raise Kinto's ``BackendError`` in place of SQLAlchemy's errors."""
    try:
        yield
    except SQL_ERRORS as error:
        message = f"the database cannot be read: {getattr(error, 'orig', None) or error}"
        raise BackendError(original=error, message=message) from error


def records_with_attachment(connection: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the URI and the ``attachment`` of every record that has one, in all buckets.

    Includes records of collections that do not exist any more: they reappear with the next
    collection of that name.
    """
    for row in stream(connection, _RECORDS):
        yield row.uri, row.attachment


def rows(connection: Any, resource_name: str) -> Iterator[Row]:
    """Yield every row of the plugin with that name."""
    # Links of earlier versions may have the name, but PARENT itself as their parent.
    for row in stream(connection, _ROWS, resource_name=resource_name, parents=f"{PARENT}/"):
        yield row.data


def current_rows(kinto_storage: Any, resource_name: str) -> Iterator[Row]:
    """Yield every row of the plugin with that name, in the current transaction, whatever the
    backend is."""
    if is_postgresql(kinto_storage):
        with kinto_storage.client.connect(readonly=True) as connection:
            yield from rows(connection, resource_name)
    else:
        # All of them are in memory anyway.
        yield from kinto_storage.list_all(resource_name=resource_name, parent_id=f"{PARENT}/*")


def stream(connection: Any, query: str, **parameters: Any) -> Iterator[Any]:
    """Yield the rows of a query, of which only some are in memory at a time."""
    options = {"stream_results": True, "yield_per": _FETCHED}
    yield from connection.execute(sqlalchemy.text(query), parameters, execution_options=options)

"""What is read straight from Kinto's tables, where its storage interface has no way to.

Kinto's storage lists one parent at a time, and answers with lists. Those who look at everything
(``kinto-attachment check``, a flush) want one pass in constant memory: rows come from PostgreSQL
through a server-side cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kinto.core.utils import sqlalchemy

# Rows fetched at a time.
_ROWS = 1000

_RECORDS = """
SELECT parent_id || '/records/' || id AS uri, data->'attachment' AS attachment
  FROM objects
 WHERE resource_name = 'record' AND NOT deleted
   AND jsonb_typeof(data->'attachment') = 'object'
 ORDER BY parent_id, id
"""
_ROWS_OF_OURS = r"""
SELECT data
  FROM objects
 WHERE resource_name = :resource_name AND NOT deleted
   AND parent_id LIKE '\_\_attachments\_\_/%'
"""


def is_postgresql(storage: Any) -> bool:
    """Whether Kinto's ``storage`` is PostgreSQL."""
    return hasattr(storage, "client")


def begin_snapshot(storage: Any) -> None:
    """Until the transaction ends, all that is read is of this moment, and nothing can be written.

    https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ
    """
    statement = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    with storage.client.connect(readonly=True) as session:
        session.execute(sqlalchemy.text(statement))


def records_with_attachment(storage: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The URI and the ``attachment`` of every record that has one, in all buckets.

    Records of a collection that is not there any more are among them.
    """
    for row in stream(storage, _RECORDS):
        yield row.uri, row.attachment


def rows_of_ours(storage: Any, resource_name: str) -> Iterator[dict[str, Any]]:
    """Every row of that name that ``References`` keeps."""
    if is_postgresql(storage):
        for row in stream(storage, _ROWS_OF_OURS, resource_name=resource_name):
            yield row.data
    else:
        # In memory already, so a list of them is not what would fill it.
        yield from storage.list_all(resource_name=resource_name, parent_id="__attachments__/*")


def stream(storage: Any, query: str, **placeholders: Any) -> Iterator[Any]:
    """The rows that PostgreSQL answers, in constant memory. Raises Kinto's ``BackendError``."""
    with storage.client.connect(readonly=True) as session:
        yield from session.execute(
            sqlalchemy.text(query),
            placeholders,
            execution_options={"stream_results": True, "yield_per": _ROWS},
        )

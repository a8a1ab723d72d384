"""How many bytes and files records reference, counted from the rows of files.

A file counts once for the site, and once in each bucket and collection that has a record which
references it. These are named by their URI, the site by an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kinto_attachment.database.objects import statement
from kinto_attachment.database.rows import PARENT, Row
from kinto_attachment.database.scan import current_rows, is_postgresql, stream

_MAX_DIGITS = 15
"""Rows of migrated files have what a client wrote; no storage takes a file of 1 PB."""

_SIZE = f"""
CASE WHEN data->>'size' ~ '^[0-9]{{1,{_MAX_DIGITS}}}$' THEN CAST(data->>'size' AS BIGINT) END
"""
_FILES = f"""
  FROM objects
 WHERE resource_name = :resource_name AND NOT deleted AND starts_with(parent_id, '{PARENT}/')
"""  # noqa: S608 - of constants
_COUNT = f"""
SELECT CAST(COALESCE(sum({_SIZE}), 0) AS BIGINT) AS bytes, count(*) AS files {_FILES}
   AND EXISTS (SELECT FROM jsonb_array_elements_text(data->'holders') AS holder
                WHERE starts_with(holder, :prefix))
"""  # noqa: S608 - of constants
# Bucket and collection are the first parts of the URIs of holders.
_COUNT_EACH = f"""
SELECT uri, CAST(COALESCE(sum(size), 0) AS BIGINT) AS bytes, count(*) AS files
  FROM (SELECT {_SIZE} AS size, data->'holders' AS holders {_FILES}) AS file
       CROSS JOIN LATERAL (
           SELECT DISTINCT array_to_string(parts[1\\:length], '/') AS uri
             FROM jsonb_array_elements_text(holders) AS holder
                  CROSS JOIN string_to_array(holder, '/') AS parts
                  CROSS JOIN unnest(ARRAY[1, 3, 5]) AS length
       ) AS counted
 GROUP BY uri ORDER BY uri COLLATE "C"
"""  # noqa: S608 - of constants
_COUNT_OTHERS = f"""
SELECT CAST(COALESCE(sum({_SIZE}) FILTER (WHERE data ? 'kept'), 0) AS BIGINT) AS kept_bytes,
       count(*) FILTER (WHERE data ? 'kept') AS kept_files,
       count(*) FILTER (WHERE data->'holders' <> '[]' AND {_SIZE} IS NULL) AS unknown
       {_FILES}
"""  # noqa: S608 - of constants
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"


class Usage(NamedTuple):
    """Sizes are in bytes."""

    bytes: int
    files: int


def size_of(row: Row) -> int:
    """Return the size of a file, 0 if its row does not have it."""
    size: Any = row.get("size")
    return size if type(size) is int and 0 <= size < 10**_MAX_DIGITS else 0


def uris(holders: list[str]) -> set[str]:
    """Return what a file with these holders counts in: the URIs of the site, buckets and
    collections."""
    parts = [uri.split("/", 5) for uri in holders]
    return {"/".join(each[:length]) for each in parts for length in (1, 3, 5)}


def count(kinto_storage: Any, resource_name: str, uri: str) -> Usage:
    """Count what is in the site, a bucket or a collection, in the current transaction.

    Reads all the rows of files (``resource_name``).
    """
    if is_postgresql(kinto_storage):
        parameters = {"resource_name": resource_name, "prefix": f"{uri}/"}
        with kinto_storage.client.connect(readonly=True) as connection:
            return Usage(*connection.execute(statement(_COUNT), parameters).one())
    sizes = [
        size_of(row)
        for row in current_rows(kinto_storage, resource_name)
        if uri in uris(row["holders"])
    ]
    return Usage(sum(sizes), len(sizes))


def lock_count(kinto_storage: Any, uri: str) -> None:
    """Let no other transaction begin to count what is there until this one ends."""
    with kinto_storage.client.connect() as connection:
        connection.execute(statement(_LOCK), {"name": f"attachments-usage:{uri}"})


def count_each(connection: Any, resource_name: str) -> Iterator[tuple[str, Usage]]:
    """Yield what is in the site, in each bucket and in each collection, sorted by URI."""
    for row in stream(connection, _COUNT_EACH, resource_name=resource_name):
        yield row.uri, Usage(row.bytes, row.files)


def count_others(connection: Any, resource_name: str) -> tuple[Usage, int]:
    """Count the files that are kept, though no record references them; and those that records
    reference, but whose size is not known: it counts as 0."""
    parameters = {"resource_name": resource_name}
    row = connection.execute(statement(_COUNT_OTHERS), parameters).one()
    return Usage(row.kept_bytes, row.kept_files), row.unknown

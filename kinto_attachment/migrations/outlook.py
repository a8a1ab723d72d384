"""What ``kinto migrate`` will find in a database, counted by one query that only reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kinto.core.utils import sqlalchemy

from kinto_attachment.migrations import sql

BASES = 20
"""Base URLs that are named, at most: any client may write more."""
_LENGTH = 200
"""Characters of each, for the same reason."""

# See sql.PLAN, which fills tables with it. A record means one file: under a known base URL, else
# by the longest name.
_QUERY = f"""
WITH links AS MATERIALIZED (
    SELECT data->>'location' AS name FROM objects WHERE {sql.IS_LINK}
), names AS MATERIALIZED (
    SELECT DISTINCT name FROM links WHERE name <> ''
), records AS MATERIALIZED (
    SELECT parent_id, id, data->'attachment'->>'location' AS location,
           data->'attachment'->>'hash' AS hash
      FROM objects
     WHERE {sql.HAS_LOCATION}
), shown AS MATERIALIZED (
    SELECT DISTINCT ON (parent_id, id) name, hash, base, base = ANY(:bases) AS known
      FROM (SELECT parent_id, id, hash, name,
                   left(location, char_length(location) - char_length(name)) AS base
              FROM (SELECT *, string_to_array(location, '/') AS parts FROM records) AS located
                   CROSS JOIN generate_series(
                       greatest(1, cardinality(parts) - {sql.DEPTH - 1}), cardinality(parts)
                   ) AS start
                   JOIN names ON name = array_to_string(parts[start:], '/')) AS matching
     ORDER BY parent_id, id, base = ANY(:bases) DESC, char_length(name) DESC
), known AS (
    SELECT name, array_agg(DISTINCT hash) AS hashes FROM shown WHERE known GROUP BY name
), meant AS MATERIALIZED (
    SELECT name, base, shown.known
      FROM shown LEFT JOIN known USING (name)
     WHERE shown.known OR known.name IS NULL
        OR hash = ANY(hashes) OR array_position(hashes, NULL) IS NOT NULL
), bases AS (
    SELECT base, known, count(*) AS records FROM meant GROUP BY base, known
)
SELECT (SELECT count(*) FROM links) AS links,
       (SELECT count(*) FROM names) AS files,
       (SELECT count(*) FROM records) AS records,
       (SELECT count(*) FROM meant WHERE known) AS referencing,
       (SELECT count(*) FROM meant WHERE NOT known) AS unknown,
       (SELECT count(DISTINCT name) FROM meant) AS referenced,
       (SELECT count(*) FROM bases) AS number_of_bases,
       (SELECT jsonb_agg(jsonb_build_array(left(base, {_LENGTH}), known, records))
          FROM (SELECT * FROM bases ORDER BY known, records DESC, base LIMIT {BASES}) AS named
       ) AS bases
"""  # noqa: S608 - of constants


class Base(NamedTuple):
    """What stands before the names of files in the locations of so many records; ``known``: it is
    a base URL of the settings."""

    url: str
    known: bool
    records: int


class Outlook(NamedTuple):
    """What is to be migrated: the ``links``, which name ``files``.

    Of the ``records`` with an attachment, some are ``referencing`` such a file, or would be if the
    ``unknown`` base URL before its name were known. ``referenced`` are files of either. Reading
    took so many ``seconds``.
    """

    links: int
    files: int
    records: int
    referencing: int
    unknown: int
    referenced: int
    bases: Sequence[Base]
    more_bases: int
    seconds: float


def look(connection: Any, base_urls: Sequence[str]) -> Outlook | None:
    """Count what is to be migrated, with these base URLs; ``None`` without Kinto's tables.

    Memory is constant here, and in the database as much as its ``work_mem`` allows.
    """
    if not connection.execute(sqlalchemy.text(sql.HAS_TABLES)).scalar():
        return None
    started = time.monotonic()
    row = connection.execute(sqlalchemy.text(_QUERY), {"bases": [*base_urls]}).one()
    seconds = time.monotonic() - started
    bases = [Base(*each) for each in row.bases or ()]
    return Outlook(
        links=row.links,
        files=row.files,
        records=row.records,
        referencing=row.referencing,
        unknown=row.unknown,
        referenced=row.referenced,
        bases=bases,
        more_bases=row.number_of_bases - len(bases),
        seconds=seconds,
    )

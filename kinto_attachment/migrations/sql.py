"""The SQL of the migration: sets, not rows, so that it is one pass however many links there are.

``PLAN`` fills temporary tables from the links and the records, ``APPLY`` writes what follows from
them: rows as ``References`` writes them. Kinto's trigger gives them their ``last_modified``.
"""

# ruff: noqa: S608 - what is put together here are constants of this package

from __future__ import annotations

from kinto_attachment.attachments.references import FILES, HOLDINGS
from kinto_attachment.database.rows import PARENT, ROW

HAS_TABLES = "SELECT to_regclass('objects') IS NOT NULL"

# Version 9 has moved its links from the one name to the other. Rows of ours have other parents.
_IS_LINK = f"parent_id = '{PARENT}' AND resource_name IN ('', 'attachments') AND NOT deleted"

COUNT_LINKS = f"SELECT count(*) FROM objects WHERE {_IS_LINK}"

# Nobody else writes until the transaction ends, so nobody takes a file off a record, or a record
# off the plan, in the meantime. To be taken first: who waits for it then holds nothing.
LOCK = "LOCK TABLE objects IN EXCLUSIVE MODE"


def _row_of(resource_name: str, key: str) -> str:
    """The condition under which an object is the row of ``key``."""
    return f"id = '{ROW}' AND resource_name = '{resource_name}' AND parent_id = {_parent(key)}"


def _parent(key: str) -> str:
    return f"'{PARENT}/' || encode(sha256(convert_to({key}, 'UTF8')), 'hex')"


# As Settings.relative_names() has it.
_IS_UNDER_BASE = """
    CASE base WHEN '' THEN NOT starts_with(location, '/') AND position('://' IN location) = 0
              ELSE starts_with(location, base) END
"""

# What a record shows that holds the file of a row: see References.
_SHOWN_BY_ROW = """
    jsonb_strip_nulls(jsonb_build_object(
        'filename', data->'filename', 'hash', data->'hash',
        'mimetype', data->'mimetype', 'size', data->'size'
    )) || COALESCE(data->'extra', '{}')
"""

# Deeper names than that are not looked for under unknown base URLs, which anybody may write.
_DEPTH = 20

PLAN = (
    f"""
CREATE TEMPORARY TABLE attachment_links ON COMMIT DROP AS
SELECT id, resource_name, data->>'location' AS name, data->>'record_uri' AS record_uri
  FROM objects
 WHERE {_IS_LINK}
    """,
    """
CREATE TEMPORARY TABLE attachment_names ON COMMIT DROP AS
SELECT DISTINCT name FROM attachment_links WHERE name <> ''
    """,
    """
CREATE TEMPORARY TABLE attachment_shown ON COMMIT DROP AS
SELECT parent_id || '/records/' || id AS uri,
       data->'attachment'->>'location' AS location,
       (data->'attachment') - 'location' AS metadata
  FROM objects
 WHERE resource_name = 'record' AND NOT deleted
   AND jsonb_typeof(data->'attachment'->'location') = 'string'
    """,
    "ANALYZE attachment_links",
    "ANALYZE attachment_names",
    "ANALYZE attachment_shown",
    # Records whose file has a holding are ours already; one that is gone cannot be held.
    f"""
CREATE TEMPORARY TABLE attachment_holders ON COMMIT DROP AS
SELECT DISTINCT ON (uri) uri, names.name, metadata, link.name IS NOT NULL AS linked
  FROM attachment_shown
       CROSS JOIN unnest(CAST(:bases AS text[])) AS base
       JOIN attachment_names AS names ON names.name = substr(location, char_length(base) + 1)
       LEFT JOIN attachment_links AS link ON link.record_uri = uri AND link.name = names.name
 WHERE {_IS_UNDER_BASE}
   AND NOT EXISTS (SELECT FROM objects WHERE {_row_of(HOLDINGS, "uri")})
   AND NOT EXISTS (SELECT FROM objects WHERE {_row_of(FILES, "names.name")} AND data ? 'gone')
 ORDER BY uri, char_length(base) DESC
    """,
    "ANALYZE attachment_holders",
    # What most of the records say of the file that the links name, or most of them all. Compared
    # as text: for PostgreSQL, though not for JSON, 1 is 1.0.
    f"""
CREATE TEMPORARY TABLE attachment_files ON COMMIT DROP AS
SELECT name, COALESCE(
           (SELECT {_SHOWN_BY_ROW} FROM objects WHERE {_row_of(FILES, "name")}), metadata
       ) AS metadata
  FROM (SELECT DISTINCT ON (name) name, CAST(seen AS jsonb) AS metadata
          FROM (SELECT name, CAST(metadata AS text) AS seen,
                       count(*) FILTER (WHERE linked) AS with_link, count(*) AS holders
                  FROM attachment_holders
                 GROUP BY name, seen) AS counted
         ORDER BY name, with_link DESC, holders DESC, seen) AS chosen
    """,
    "ANALYZE attachment_files",
    # Files that a record shows under a base URL that nobody has told of. Another file may end
    # with the same name, but not with the same hash.
    f"""
CREATE TEMPORARY TABLE attachment_waiting ON COMMIT DROP AS
SELECT uri, name, left(location, char_length(location) - char_length(name)) AS base
  FROM (SELECT uri, location, metadata, string_to_array(location, '/') AS parts
          FROM attachment_shown
         WHERE NOT EXISTS (
                   SELECT FROM unnest(CAST(:bases AS text[])) AS base WHERE {_IS_UNDER_BASE}
               )) AS unknown
       CROSS JOIN generate_series(
           greatest(2, cardinality(parts) - {_DEPTH - 1}), cardinality(parts)
       ) AS start
       JOIN attachment_names ON name = array_to_string(parts[start:], '/')
       LEFT JOIN attachment_files AS known USING (name)
 WHERE known.metadata->'hash' IS NULL OR known.metadata->'hash' = unknown.metadata->'hash'
    """,
    "DELETE FROM attachment_holders WHERE name IN (SELECT name FROM attachment_waiting)",
    "DELETE FROM attachment_files WHERE name IN (SELECT name FROM attachment_waiting)",
    f"""
CREATE TEMPORARY TABLE attachment_unreferenced ON COMMIT DROP AS
SELECT name,
       substring(record_uri FROM '^(/buckets/[^/]+/collections/[^/]+)/records/') AS collection_uri
  FROM attachment_links AS link
 WHERE name <> ''
   AND NOT EXISTS (SELECT FROM attachment_files WHERE name = link.name)
   AND NOT EXISTS (SELECT FROM attachment_waiting WHERE name = link.name)
   AND NOT EXISTS (SELECT FROM objects WHERE {_row_of(FILES, "link.name")})
    """,
)

COLLECTIONS_OF_UNREFERENCED = "SELECT DISTINCT collection_uri FROM attachment_unreferenced"

PLAN_KEPT = """
CREATE TEMPORARY TABLE attachment_kept ON COMMIT DROP AS
SELECT DISTINCT name
  FROM attachment_unreferenced
 WHERE COALESCE(collection_uri, '') = ANY (CAST(:kept_in AS text[]))
"""

COUNTS = """
SELECT (SELECT count(*) FROM attachment_links) AS links,
       (SELECT count(*) FROM attachment_files) AS files,
       (SELECT count(*) FROM attachment_holders) AS held,
       (SELECT count(*) FROM attachment_kept) AS kept,
       (SELECT count(DISTINCT name) FROM attachment_unreferenced) AS unreferenced,
       (SELECT count(*) FROM attachment_holders JOIN attachment_files AS file USING (name)
         WHERE CAST(attachment_holders.metadata AS text) <> CAST(file.metadata AS text)
       ) AS different,
       (SELECT count(*) FROM attachment_links
         WHERE name IN (SELECT name FROM attachment_waiting)) AS waiting
"""

DIFFERENT = """
SELECT uri, name, CAST(attachment_holders.metadata AS text) AS metadata
  FROM attachment_holders JOIN attachment_files AS file USING (name)
 WHERE CAST(attachment_holders.metadata AS text) <> CAST(file.metadata AS text)
 ORDER BY uri
 LIMIT :limit
"""

UNKNOWN_BASES = """
SELECT base, count(DISTINCT uri) AS records
  FROM attachment_waiting
 GROUP BY base
 ORDER BY records DESC, base
 LIMIT :limit
"""

_BLANK = '{"filename": null, "hash": null, "mimetype": null, "size": null}'

# What has the form that an upload would have. All else is extra: shown, but not worked with.
_IS_PLAIN = """
    CASE key WHEN 'size' THEN CAST(value AS text) ~ '^[0-9]+$'
             WHEN 'filename' THEN jsonb_typeof(value) = 'string'
             WHEN 'hash' THEN CAST(value AS text) ~ '^"[0-9a-f]{64}"$'
             WHEN 'mimetype' THEN CAST(value AS text) ~ '^"[!-~]+/[ -~]+"$'
             ELSE FALSE END
"""

# In the order of an index, rows go in more than twice as fast.
APPLY = (
    f"""
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
SELECT '{ROW}', {_parent("name")}, '{FILES}',
       CAST('{_BLANK}' AS jsonb)
       || COALESCE(plain, '{{}}')
       || CASE WHEN extra IS NULL THEN '{{}}' ELSE jsonb_build_object('extra', extra) END
       || jsonb_build_object('name', name, 'holders', holders),
       FALSE
  FROM attachment_files
       JOIN (SELECT name, jsonb_agg(uri ORDER BY uri) AS holders
               FROM attachment_holders
              GROUP BY name) AS held USING (name)
       CROSS JOIN LATERAL (
           SELECT jsonb_object_agg(key, value) FILTER (WHERE {_IS_PLAIN}) AS plain,
                  jsonb_object_agg(key, value) FILTER (WHERE NOT {_IS_PLAIN}) AS extra
             FROM jsonb_each(metadata)
       ) AS split
 ORDER BY 2
ON CONFLICT (id, parent_id, resource_name) DO UPDATE
   SET data = (objects.data - 'kept') || jsonb_build_object('holders', (
           SELECT jsonb_agg(uri ORDER BY uri COLLATE "C")
             FROM (SELECT jsonb_array_elements_text(objects.data->'holders')
                    UNION
                   SELECT jsonb_array_elements_text(EXCLUDED.data->'holders')) AS both_of (uri)
       )),
       last_modified = EXCLUDED.last_modified
    """,
    f"""
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
SELECT '{ROW}', {_parent("uri")}, '{HOLDINGS}',
       jsonb_build_object('uri', uri, 'name', name)
       || CASE WHEN CAST(attachment_holders.metadata AS text) = CAST(file.metadata AS text)
               THEN '{{}}'
               ELSE jsonb_build_object('shown', attachment_holders.metadata) END,
       FALSE
  FROM attachment_holders JOIN attachment_files AS file USING (name)
 ORDER BY 2
    """,
    f"""
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
SELECT '{ROW}', {_parent("name")}, '{FILES}',
       CAST('{_BLANK}' AS jsonb)
       || jsonb_build_object('name', name, 'holders', CAST('[]' AS jsonb))
       || jsonb_build_object('kept', CAST(:now AS bigint)),
       FALSE
  FROM attachment_kept
    """,
    f"""
DELETE FROM objects
 USING attachment_links AS link
 WHERE objects.id = link.id
   AND objects.parent_id = '{PARENT}'
   AND objects.resource_name = link.resource_name
   AND NOT EXISTS (SELECT FROM attachment_waiting WHERE name = link.name)
    """,
)

REMEMBER_VERSION = """
INSERT INTO metadata (name, value)
SELECT CAST(:name AS text), CAST(:value AS text)
 WHERE NOT EXISTS (SELECT FROM metadata WHERE name = :name AND value = :value)
"""

# When links were taken over last: files that are older and have no row may be kept ones.
REMEMBER_TIME = """
INSERT INTO metadata (name, value) VALUES ('kinto_attachment_taken_over', CAST(:now AS text))
"""
TAKEN_OVER = """
SELECT max(CAST(value AS bigint)) FROM metadata WHERE name = 'kinto_attachment_taken_over'
"""

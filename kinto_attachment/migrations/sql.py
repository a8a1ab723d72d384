"""The SQL of the migration, which works on sets, in one pass over all links.

``PLAN`` fills temporary tables from links and records, ``APPLY`` inserts rows from them, as
``References`` writes them, and deletes the links. Kinto's trigger sets ``last_modified``.
"""

# ruff: noqa: S608 - built from constants of this package

from __future__ import annotations

from kinto_attachment.attachments.lookup import FILES, HOLDINGS
from kinto_attachment.database.rows import PARENT, ROW

HAS_TABLES = "SELECT to_regclass('objects') IS NOT NULL"

# Version 9 renamed the resource of its links. The plugin's rows have other parents.
IS_LINK = f"parent_id = '{PARENT}' AND resource_name IN ('', 'attachments') AND NOT deleted"

HAS_LOCATION = """
    resource_name = 'record' AND NOT deleted
    AND jsonb_typeof(data->'attachment'->'location') = 'string'
"""

COUNT_LINKS = f"SELECT count(*) FROM objects WHERE {IS_LINK}"

# Keeps records as they were planned for until the transaction ends. To be taken before any other
# lock, so that whoever waits for it is not waited for.
LOCK = "LOCK TABLE objects IN EXCLUSIVE MODE"


def _row_of(resource_name: str, key: str) -> str:
    """Return the condition for an object to be the row of ``key``."""
    return f"id = '{ROW}' AND resource_name = '{resource_name}' AND parent_id = {_parent(key)}"


def _parent(key: str) -> str:
    return f"'{PARENT}/' || encode(sha256(convert_to({key}, 'UTF8')), 'hex')"


# See Settings.relative_names().
_IS_UNDER_BASE = """
    CASE base WHEN '' THEN NOT starts_with(location, '/') AND position('://' IN location) = 0
              ELSE starts_with(location, base) END
"""

# The metadata in the records of a file row: see References.
_METADATA_OF_ROW = """
    jsonb_strip_nulls(jsonb_build_object(
        'filename', data->'filename', 'hash', data->'hash',
        'mimetype', data->'mimetype', 'size', data->'size'
    )) || COALESCE(data->'extra', '{}')
"""

# Segments of a name, at most, under unknown base URLs: any client may write long ones.
DEPTH = 20

PLAN = (
    f"""
CREATE TEMPORARY TABLE attachment_links ON COMMIT DROP AS
SELECT id, resource_name, data->>'location' AS name, data->>'record_uri' AS record_uri
  FROM objects
 WHERE {IS_LINK}
    """,
    """
CREATE TEMPORARY TABLE attachment_names ON COMMIT DROP AS
SELECT DISTINCT name FROM attachment_links WHERE name <> ''
    """,
    f"""
CREATE TEMPORARY TABLE attachment_records ON COMMIT DROP AS
SELECT parent_id || '/records/' || id AS uri,
       data->'attachment'->>'location' AS location,
       (data->'attachment') - 'location' AS metadata
  FROM objects
 WHERE {HAS_LOCATION}
    """,
    "ANALYZE attachment_links",
    "ANALYZE attachment_names",
    "ANALYZE attachment_records",
    # Leaves out records whose holding is current, and files that are marked gone. A holding is not
    # if an earlier version, after a way back, has replaced the file: the location is another one.
    f"""
CREATE TEMPORARY TABLE attachment_holders ON COMMIT DROP AS
SELECT DISTINCT ON (uri) uri, names.name, location, metadata, link.name IS NOT NULL AS linked
  FROM attachment_records
       CROSS JOIN unnest(CAST(:bases AS text[])) AS base
       JOIN attachment_names AS names ON names.name = substr(location, char_length(base) + 1)
       LEFT JOIN attachment_links AS link ON link.record_uri = uri AND link.name = names.name
 WHERE {_IS_UNDER_BASE}
   AND NOT EXISTS (SELECT FROM objects
                    WHERE {_row_of(HOLDINGS, "uri")}
                      AND COALESCE(data->>'location' = location, TRUE))
   AND NOT EXISTS (SELECT FROM objects WHERE {_row_of(FILES, "names.name")} AND data ? 'gone')
 ORDER BY uri, char_length(base) DESC
    """,
    "ANALYZE attachment_holders",
    # Where records differ, the metadata of most records with a link, else of most records.
    # Compared as text: for PostgreSQL, unlike JSON, 1 equals 1.0.
    f"""
CREATE TEMPORARY TABLE attachment_files ON COMMIT DROP AS
SELECT name, COALESCE(
           (SELECT {_METADATA_OF_ROW} FROM objects WHERE {_row_of(FILES, "name")}), metadata
       ) AS metadata
  FROM (SELECT DISTINCT ON (name) name, CAST(seen AS jsonb) AS metadata
          FROM (SELECT name, CAST(metadata AS text) AS seen,
                       count(*) FILTER (WHERE linked) AS with_link, count(*) AS holders
                  FROM attachment_holders
                 GROUP BY name, seen) AS counted
         ORDER BY name, with_link DESC, holders DESC, seen) AS chosen
    """,
    "ANALYZE attachment_files",
    # Records with an unknown base URL before the name of a file. Another file's location may end
    # in the same name, but does not have the same hash.
    f"""
CREATE TEMPORARY TABLE attachment_pending ON COMMIT DROP AS
SELECT uri, name, left(location, char_length(location) - char_length(name)) AS base
  FROM (SELECT uri, location, metadata, string_to_array(location, '/') AS parts
          FROM attachment_records
         WHERE NOT EXISTS (
                   SELECT FROM unnest(CAST(:bases AS text[])) AS base WHERE {_IS_UNDER_BASE}
               )) AS unknown
       CROSS JOIN generate_series(
           greatest(2, cardinality(parts) - {DEPTH - 1}), cardinality(parts)
       ) AS start
       JOIN attachment_names ON name = array_to_string(parts[start:], '/')
       LEFT JOIN attachment_files AS known USING (name)
 WHERE known.metadata->'hash' IS NULL OR known.metadata->'hash' = unknown.metadata->'hash'
    """,
    "DELETE FROM attachment_holders WHERE name IN (SELECT name FROM attachment_pending)",
    "DELETE FROM attachment_files WHERE name IN (SELECT name FROM attachment_pending)",
    f"""
CREATE TEMPORARY TABLE attachment_orphans ON COMMIT DROP AS
SELECT name,
       substring(record_uri FROM '^(/buckets/[^/]+/collections/[^/]+)/records/') AS collection_uri
  FROM attachment_links AS link
 WHERE name <> ''
   AND NOT EXISTS (SELECT FROM attachment_files WHERE name = link.name)
   AND NOT EXISTS (SELECT FROM attachment_pending WHERE name = link.name)
   AND NOT EXISTS (SELECT FROM objects WHERE {_row_of(FILES, "link.name")})
    """,
)

COLLECTIONS_OF_ORPHANS = "SELECT DISTINCT collection_uri FROM attachment_orphans"

PLAN_KEPT = """
CREATE TEMPORARY TABLE attachment_kept ON COMMIT DROP AS
SELECT DISTINCT name
  FROM attachment_orphans
 WHERE COALESCE(collection_uri, '') = ANY (CAST(:kept_in AS text[]))
"""

COUNTS = """
SELECT (SELECT count(*) FROM attachment_links) AS links,
       (SELECT count(*) FROM attachment_files) AS files,
       (SELECT count(*) FROM attachment_holders) AS held,
       (SELECT count(*) FROM attachment_kept) AS kept,
       (SELECT count(DISTINCT name) FROM attachment_orphans) AS orphans,
       (SELECT count(*) FROM attachment_holders JOIN attachment_files AS file USING (name)
         WHERE CAST(attachment_holders.metadata AS text) <> CAST(file.metadata AS text)
       ) AS different,
       (SELECT count(*) FROM attachment_links
         WHERE name IN (SELECT name FROM attachment_pending)) AS pending
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
  FROM attachment_pending
 GROUP BY base
 ORDER BY records DESC, base
 LIMIT :limit
"""

_BLANK = '{"filename": null, "hash": null, "mimetype": null, "size": null}'

# Metadata as this version writes it. All else goes to ``extra``, which is only compared.
_IS_PLAIN = """
    CASE key WHEN 'size' THEN CAST(value AS text) ~ '^[0-9]+$'
             WHEN 'filename' THEN jsonb_typeof(value) = 'string'
             WHEN 'hash' THEN CAST(value AS text) ~ '^"[0-9a-f]{64}"$'
             WHEN 'mimetype' THEN CAST(value AS text) ~ '^"[!-~]+/[ -~]+"$'
             ELSE FALSE END
"""

# Sorted as an index is: that makes inserts more than twice as fast.
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
ON CONFLICT (id, parent_id, resource_name) DO UPDATE
   SET data = EXCLUDED.data, last_modified = EXCLUDED.last_modified
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
   AND NOT EXISTS (SELECT FROM attachment_pending WHERE name = link.name)
    """,
)

# Holdings of the first versions had no location: a record that is sent back unchanged needs it.
ADD_LOCATIONS = f"""
UPDATE objects AS holding
   SET data = holding.data
              || jsonb_build_object('location', record.data->'attachment'->'location'),
       last_modified = NULL
  FROM objects AS record
 WHERE holding.resource_name = '{HOLDINGS}' AND NOT holding.deleted
   AND NOT holding.data ? 'location'
   AND record.resource_name = 'record' AND NOT record.deleted
   AND record.parent_id = split_part(holding.data->>'uri', '/records/', 1)
   AND record.id = split_part(holding.data->>'uri', '/records/', 2)
   AND right(record.data->'attachment'->>'location', char_length(holding.data->>'name'))
       = holding.data->>'name'
"""

STORE_VERSION = """
INSERT INTO metadata (name, value)
SELECT CAST(:name AS text), CAST(:value AS text)
 WHERE NOT EXISTS (SELECT FROM metadata WHERE name = :name AND value = :value)
"""

# Orphans without a row that are older than the last migration may have been kept.
STORE_TIME = """
INSERT INTO metadata (name, value) VALUES ('kinto_attachment_taken_over', CAST(:now AS text))
"""
LAST_MIGRATION = """
SELECT max(CAST(value AS bigint)) FROM metadata WHERE name = 'kinto_attachment_taken_over'
"""

"""The tables of an inventory, in SQLite: what was read, then what follows from it."""

from __future__ import annotations

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
-- Records with an attachment. known: the location starts with a known base URL.
CREATE TABLE records (uri TEXT PRIMARY KEY, attachment TEXT, known INTEGER) WITHOUT ROWID;
-- The names that a record's location may end with, the longest first. known: one under a known
-- base URL.
CREATE TABLE candidates (
    uri TEXT, rank INTEGER, name TEXT, known INTEGER, PRIMARY KEY (uri, rank)
) WITHOUT ROWID;
-- File rows, and the holders that they name.
CREATE TABLE rows (name TEXT PRIMARY KEY, row TEXT, kept INTEGER, gone INTEGER) WITHOUT ROWID;
CREATE TABLE named (name TEXT, uri TEXT, PRIMARY KEY (name, uri)) WITHOUT ROWID;
CREATE TABLE holdings (uri TEXT PRIMARY KEY, name TEXT, holding TEXT) WITHOUT ROWID;
-- When gc --mark has found an orphan first, in seconds since 1970.
CREATE TABLE marks (name TEXT PRIMARY KEY, since REAL) WITHOUT ROWID;
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, modified REAL, excluded INTEGER)
    WITHOUT ROWID;
-- What resumable uploads need: names of files, and ids of the storage's incomplete uploads.
CREATE TABLE needed (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""

# similarity(): see inventory.py.
JOINED = """
CREATE INDEX candidates_by_name ON candidates (name);
-- The files that a record may show. own: the one that it holds, according to its holding.
CREATE TABLE matches (
    uri TEXT, rank INTEGER, name TEXT, known INTEGER, own INTEGER, same INTEGER,
    PRIMARY KEY (uri, rank)
) WITHOUT ROWID;
INSERT INTO matches
    SELECT uri, rank, candidates.name, candidates.known, holdings.name IS candidates.name,
           similarity(attachment, row, holding)
      FROM candidates JOIN rows ON rows.name = candidates.name JOIN records USING (uri)
           LEFT JOIN holdings USING (uri);
DELETE FROM matches WHERE NOT same;
-- The one that it shows: its own, else the longest name. held: its row and its holding should say
-- so, or do. A client may write any location, so that another one only claims a file.
CREATE TABLE shown (
    uri TEXT PRIMARY KEY, name TEXT, known INTEGER, own INTEGER, held INTEGER
) WITHOUT ROWID;
INSERT OR IGNORE INTO shown
    SELECT uri, name, known, own,
           own OR (known AND same = 2) OR EXISTS (
               SELECT 1 FROM named WHERE named.name = matches.name AND named.uri = matches.uri)
      FROM matches ORDER BY uri, own DESC, rank;
CREATE VIEW held AS SELECT uri, name FROM shown WHERE held;
-- Files without a row are known by their names alone.
INSERT OR IGNORE INTO shown
    SELECT uri, name, known, 0, 0 FROM candidates JOIN files USING (name)
     WHERE name NOT IN (SELECT name FROM rows) ORDER BY uri, rank;
-- Names of which a record may show the file. One that shows its own shows no other.
CREATE TABLE protected (name TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT OR IGNORE INTO protected SELECT name FROM shown;
INSERT OR IGNORE INTO protected
    SELECT name FROM matches WHERE uri NOT IN (SELECT uri FROM shown WHERE own);
INSERT OR IGNORE INTO protected
    SELECT name FROM candidates
     WHERE name NOT IN (SELECT name FROM rows) AND uri NOT IN (SELECT uri FROM shown WHERE own);
-- Whether a record's file is there.
CREATE TABLE stored (uri TEXT PRIMARY KEY, name TEXT, held INTEGER, size INTEGER) WITHOUT ROWID;
INSERT INTO stored SELECT uri, name, held, size FROM shown JOIN files USING (name);
-- Rows that do not say of a file what its name does: whether it is private.
CREATE VIEW doubtful AS
    SELECT name FROM rows WHERE is_private(name) <> (json_extract(row, '$.private') IS NOT NULL);
CREATE TABLE orphans (
    name TEXT PRIMARY KEY, size INTEGER, modified REAL, kind TEXT, kept REAL, marked REAL
) WITHOUT ROWID;
"""

# Earlier versions had no rows for files that they kept. So where files are kept, an orphan
# without a row that is older than the migration counts as kept, if the plugin may have named it.
ORPHANS = """
INSERT INTO orphans
    SELECT name, size, modified, kind,
           CASE WHEN kind = 'kept' THEN COALESCE(kept / 1000.0, modified) END,
           CASE WHEN since >= modified THEN since END
      FROM (SELECT name, size, modified, kept, CASE
                   WHEN kept IS NOT NULL THEN 'kept'
                   WHEN gone IS NOT NULL THEN 'gone'
                   WHEN row IS NOT NULL THEN 'stray'
                   WHEN is_part(name) THEN 'part'
                   WHEN NOT is_random(name) THEN 'foreign'
                   WHEN modified < :kept_before THEN 'kept'
                   ELSE 'stray' END AS kind
              FROM files LEFT JOIN rows USING (name)
             WHERE NOT excluded
               AND name NOT IN (SELECT name FROM protected)
               AND name NOT IN (SELECT name FROM needed)
               AND name NOT IN (SELECT name FROM doubtful)
           ) LEFT JOIN marks USING (name)
"""

# What is stored, or should be.
KNOWN = """
SELECT name, size FROM files LEFT JOIN rows USING (name)
 WHERE NOT is_part(name)
   AND ((row IS NOT NULL AND gone IS NULL)
        OR name IN (SELECT name FROM stored)
        OR name IN (SELECT name FROM needed)
        OR name IN (SELECT name FROM orphans WHERE kind = 'kept'))
UNION ALL
SELECT name, NULL FROM (SELECT name FROM rows WHERE gone IS NULL UNION SELECT name FROM held)
 WHERE name NOT IN (SELECT name FROM files)
"""

# What the files are, that a row or a record knows; stored: the size that the storage has.
CONTENTS = """
CREATE TABLE contents (name TEXT PRIMARY KEY, hash TEXT, size INTEGER, stored INTEGER)
    WITHOUT ROWID;
INSERT INTO contents
    SELECT name, json_extract(row, '$.hash'), json_extract(row, '$.size'), files.size
      FROM rows LEFT JOIN files USING (name)
     WHERE gone IS NULL OR name IN (SELECT name FROM held);
CREATE INDEX contents_by_size ON contents (size);
CREATE INDEX contents_by_hash ON contents (hash);
CREATE TABLE asked (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_SHOWS = "SELECT uri FROM held UNION SELECT uri FROM stored"
_COUNTS = {
    "records with a file": "SELECT count(*) FROM records WHERE uri IN ({shows})",
    "records that only claim a file": """
        SELECT count(*) FROM records
         WHERE uri NOT IN ({shows}) AND (known OR uri IN (SELECT uri FROM shown))""",
    "records with a file elsewhere": """
        SELECT count(*) FROM records
         WHERE NOT known AND uri NOT IN (SELECT uri FROM shown)""",
    "records under an unknown base URL": """
        SELECT count(*) FROM shown WHERE NOT known AND uri IN ({shows})""",
    "rows of files": "SELECT count(*) FROM rows",
    "files stored": "SELECT count(*) FROM files",
    "bytes kept": "SELECT COALESCE(sum(size), 0) FROM orphans WHERE kind = 'kept'",
    "bytes foreign": "SELECT COALESCE(sum(size), 0) FROM orphans WHERE kind = 'foreign'",
}
COUNTS = {title: query.format(shows=_SHOWS) for title, query in _COUNTS.items()}

# What each stored file is: one of these.
STATES = (
    "files referenced",
    "files of resumable uploads",
    "files unreferenced",
    "files unreferenced but young",
    "files kept",
    "files foreign",
    "files excluded",
    "files with a doubtful row",
)
COUNT_STATES = """
SELECT CASE WHEN excluded THEN 'files excluded'
            WHEN kind IN ('kept', 'foreign') THEN 'files ' || kind
            WHEN orphans.modified < :before THEN 'files unreferenced'
            WHEN kind IS NOT NULL THEN 'files unreferenced but young'
            WHEN name IN (SELECT name FROM protected) THEN 'files referenced'
            WHEN name IN (SELECT name FROM needed) THEN 'files of resumable uploads'
            ELSE 'files with a doubtful row' END AS state, count(*)
  FROM files LEFT JOIN orphans USING (name)
 GROUP BY state
"""

UNKNOWN_BASES = """
SELECT base_of(attachment, name) AS base, count(*) AS records
  FROM shown JOIN records USING (uri)
 WHERE NOT shown.known AND (held OR uri IN (SELECT uri FROM stored))
 GROUP BY base ORDER BY records DESC, base LIMIT ?
"""

MISMATCHES = """
SELECT name, uri, 'named' AS way FROM (
    SELECT name, uri FROM named EXCEPT SELECT name, uri FROM held)
UNION ALL SELECT name, uri, 'not named' FROM (
    SELECT name, uri FROM held EXCEPT SELECT name, uri FROM named)
UNION ALL SELECT name, uri, 'holding' FROM (
    SELECT name, uri FROM holdings EXCEPT SELECT name, uri FROM held)
UNION ALL SELECT name, uri, 'no holding' FROM (
    SELECT name, uri FROM held EXCEPT SELECT name, uri FROM holdings)
UNION ALL SELECT name, NULL, 'free' FROM rows
    WHERE kept IS NULL AND gone IS NULL AND name NOT IN (SELECT name FROM named)
UNION ALL SELECT name, NULL, 'not free' FROM rows
    WHERE (kept IS NOT NULL OR gone IS NOT NULL) AND name IN (SELECT name FROM named)
ORDER BY name, uri
"""

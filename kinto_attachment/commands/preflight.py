"""Say what an upgrade from an earlier version (0.x to 9.x) does, and what to decide first.

Reads the ini file, also one with which this version does not start, and the database: what stops
the server, which settings have another default or meaning now, what the migration finds, how long
it takes, and what cannot be undone. Changes nothing, and starts neither server nor migration.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyramid.settings import aslist

from kinto_attachment.commands.ini import open_kinto_storage, read_ini, starting
from kinto_attachment.commands.report import Report
from kinto_attachment.database.scan import is_postgresql, snapshot
from kinto_attachment.migrations.outlook import Outlook, look
from kinto_attachment.settings import former
from kinto_attachment.storage.files import open_files

REFUSED = "refused"
"""Stops the server."""
DECIDE = "decide"
"""To be decided before the upgrade."""

_HEADINGS = {
    REFUSED: "stops the server",
    DECIDE: "to be decided",
    "changed": "changes",
    "unchanged": "stays as it is",
    "records": "records",
    "migration": "migration",
    "final": "cannot be undone",
}
_NAMES = 30
"""Settings without a change that are named."""
# The migration reads what was read here, plans, and writes: how often as long as reading that
# takes, measured with 10,000 and 100,000 files of three records each.
_TIMES = (4, 12)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


@contextmanager
def open_site(ini: str) -> Iterator[Any]:
    """Read an ini file, and start nothing. Raises ``OSError``, ``Refused``."""
    with starting(ini):
        yield read_ini(ini)


def run(config: Any, options: argparse.Namespace, report: Report) -> bool:
    """Report all that; return whether nothing stops the server or is to be decided.

    Raises Kinto's ``BackendError`` after what is said of the settings.
    """
    page = _Page(report)
    settings = former.read(config.get_settings())
    if "kinto_attachment" not in aslist(config.get_settings().get("includes", "")):
        page.tell(DECIDE, "kinto.includes has no kinto_attachment in this ini file.")
    _tell_of_settings(page, settings)
    counts = _tell_of_database(page, config, settings)
    page.close(counts)
    return page.ok


class _Page:
    """Writes findings of one kind after the other."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._told: Counter[str] = Counter()

    @property
    def ok(self) -> bool:
        return not (self._told[REFUSED] or self._told[DECIDE])

    def tell(self, kind: str, sentence: str, **fields: Any) -> None:
        self._told[kind] += 1
        self._report.finding(f"{_HEADINGS[kind]}: {sentence}", kind=kind, text=sentence, **fields)

    def close(self, counts: dict[str, int]) -> None:
        decisions = {_HEADINGS[kind]: self._told[kind] for kind in (REFUSED, DECIDE)}
        self._report.close({**counts, **decisions}, ok=self.ok)


def _tell_of_settings(page: _Page, settings: former.FormerSettings) -> None:
    for sentence in settings.refusals:
        page.tell(REFUSED, sentence)
    if settings.settings is not None:
        try:
            open_files(settings.settings.storage, settings.settings.private_storage)
        except ImportError as error:
            page.tell(
                REFUSED,
                "kinto.attachment.gcloud.bucket_name needs Google's library, which is not"
                f' installed: pip install "kinto-attachment[gcloud]" ({error}).',
            )
    for change in settings.changes:
        kind = DECIDE if change.decide else "changed"
        page.tell(kind, change.sentence, setting=change.key)
    if names := settings.unchanged:
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        page.tell("unchanged", f"{', '.join(names[:_NAMES])}{more}")


def _tell_of_database(page: _Page, config: Any, settings: former.FormerSettings) -> dict[str, int]:
    """Tell what the migration finds; return the counts."""
    kinto_storage = open_kinto_storage(config)
    if not is_postgresql(kinto_storage):
        page.tell(
            "migration",
            "kinto.storage_backend is not PostgreSQL: there is nothing to take over from other"
            " processes' memory.",
        )
        return {}
    with snapshot(kinto_storage) as connection:
        outlook = look(connection, settings.base_urls)
    if outlook is None:
        page.tell(
            DECIDE,
            "the database has no table objects: it is another one or an empty one"
            " (kinto.storage_url), or that of a Kinto older than 14, which has to be upgraded"
            " first.",
        )
        return {}
    _tell_of_records(page, outlook)
    _tell_of_migration(page, outlook)
    return {
        "uploads to take over": outlook.links,
        "files of these uploads": outlook.files,
        "files without a record": outlook.files - outlook.referenced,
        "records with an attachment": outlook.records,
        "records that reference these files": outlook.referencing,
        "records under an unknown base URL": outlook.unknown,
    }


def _tell_of_records(page: _Page, outlook: Outlook) -> None:
    for base in outlook.bases:
        fields = {"base": base.url, "records": base.records, "known": base.known}
        where = repr(base.url) if base.url else "relative locations"
        if base.known:
            page.tell("records", f"{base.records:,} under {where}, a base URL now too", **fields)
        else:
            page.tell(
                DECIDE,
                f"{base.records:,} records have their files under {where}, which is no base URL of"
                " the settings: these files wait until it is. If it was yours, add"
                f" {base.url} to kinto.attachment.former_base_urls.",
                **fields,
            )
    if outlook.more_bases:
        page.tell("records", f"{outlook.more_bases:,} more base URLs", more=outlook.more_bases)
    if others := outlook.records - outlook.referencing - outlook.unknown:
        page.tell(
            "records",
            f"{others:,} have an attachment of which no earlier version has noted the upload: it"
            " stays as it is, as plain data",
            others=others,
        )


def _tell_of_migration(page: _Page, outlook: Outlook) -> None:
    if not outlook.links:
        page.tell("migration", "there is nothing to take over.")
        return
    low, high = (max(1, round(outlook.seconds * times)) for times in _TIMES)
    page.tell(
        "migration",
        f"about {_duration(low, high)}, in one transaction: requests that write wait for it."
        f" Estimated: reading {outlook.links + outlook.records:,} objects took"
        f" {outlook.seconds:.1f} s, and the migration takes {_TIMES[0]} to {_TIMES[1]} times as"
        f" long, since it also writes {outlook.files + outlook.referencing:,}. Then it creates an"
        " index, which blocks nobody.",
        seconds=[low, high],
    )
    if left := outlook.files - outlook.referenced:
        page.tell(
            "migration",
            f"{left:,} files that no record references stay: as kept ones where"
            " kinto.attachment.keep_old_files is true, else until kinto-attachment gc --delete.",
            files=left,
        )
    page.tell(
        "final",
        "the migration replaces the notes that the earlier version has of its uploads; records and"
        " files stay as they are. After a way back, that version works, but leaves in the storage"
        " the files that it replaces or deletes. Back up the database first.",
    )
    page.tell(
        "final",
        "from then on, a file is deleted with the last record that references it, also in a batch"
        " or with a bucket, where earlier versions left many.",
    )


def _duration(low: int, high: int) -> str:
    if high < 120:
        return f"{low} to {high} s" if low < high else f"{high} s"
    return f"{max(1, round(low / 60))} to {round(high / 60)} min"

"""Compare records, files and the plugin's rows.

Every record with an attachment: is its file stored, with that size (and SHA-256, with --hash)?
Every row of the plugin: do its records hold the file? Every stored file: does a record
reference it? Files and records are only read.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from typing import Any

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.commands.inventory import Inventory
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Site

_MISMATCHES = {
    "named": "the row of {name} names {uri}, which does not hold it",
    "not named": "the row of {name} does not name {uri}, which holds it",
    "holding": "the row of {uri} has {name}, which it does not hold",
    "no holding": "the row of {uri} does not have {name}, which it holds",
    "free": "the row of {name} names no record, and does not say that it is kept or gone",
    "not free": "the row of {name} says that it is kept or gone, and names records",
}


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Check, and tell. Returns whether all is well."""
    started = datetime.now(timezone.utc)
    with site.inventory(options.exclude) as inventory:
        counts = inventory.counts()
        counts["files missing"] = _tell(report, _missing(site, inventory))
        counts["files that differ"] = _tell(report, _different(site, inventory, options.hash))
        unreferenced = _tell(report, _unreferenced(inventory, started - options.older_than))
        counts["files unreferenced"] = unreferenced
        counts["rows that differ"] = _tell(report, _mismatches(inventory))
        wrong = counts["files missing"] + counts["files that differ"] + unreferenced
        if options.repair:
            counts["rows repaired"] = _repair(site, inventory)
        else:
            wrong += counts["rows that differ"]
    report.close(counts, ok=not wrong)
    return not wrong


def _tell(report: Report, findings: Iterable[tuple[str, dict[str, Any]]]) -> int:
    count = 0
    for sentence, fields in findings:
        report.finding(sentence, **fields)
        count += 1
    return count


def _missing(site: Site, inventory: Inventory) -> Iterator[tuple[str, dict[str, Any]]]:
    for uri, name, attachment in inventory.missing():
        # It may have been replaced since the records were read: the file first, then the record.
        if not site.files.exists(name) and _still_shows(site, uri, attachment):
            yield (
                f"{uri}: {name} is not stored",
                {"problem": "missing", "record": uri, "name": name},
            )


def _different(
    site: Site, inventory: Inventory, with_hash: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, records, size in progress(inventory.stored(), "contents"):
        digest = None
        if with_hash:
            try:
                digest = _digest(site, name)
            except FileNotFoundError:
                continue  # Deleted since, with its last record.
        for uri, attachment in records:
            for key, stored in (("size", size), ("hash", digest)):
                shown = attachment.get(key)
                if stored is None or shown == stored or not _still_shows(site, uri, attachment):
                    continue
                yield (
                    f"{uri}: {name} has {key} {stored}, not {shown}",
                    {
                        "problem": key,
                        "record": uri,
                        "name": name,
                        "stored": stored,
                        "shown": shown,
                    },
                )


def _unreferenced(inventory: Inventory, before: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in inventory.unreferenced(before):
        if file.kept is None:
            yield (
                f"{file.name} is referenced by no record",
                {"problem": "unreferenced", "name": file.name, "size": file.size},
            )


def _mismatches(inventory: Inventory) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, uri, way in inventory.mismatches():
        yield (
            _MISMATCHES[way].format(name=name, uri=uri),
            {"problem": "row", "name": name, "record": uri, "way": way},
        )


def _repair(site: Site, inventory: Inventory) -> int:
    count = 0
    for name, group in groupby(inventory.mismatches(), key=itemgetter(0)):
        with site.rows() as rows:
            rows.mend(name, [Holder.at(uri) for _, uri, _ in group if uri is not None])
        count += 1
    return count


def _still_shows(site: Site, uri: str, attachment: dict[str, Any]) -> bool:
    with site.rows() as rows:
        record = rows.record(Holder.at(uri))
    return record is not None and record.get("attachment") == attachment


def _digest(site: Site, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in site.files.read(name):
        digest.update(chunk)
    return digest.hexdigest()

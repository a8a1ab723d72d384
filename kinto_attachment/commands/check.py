"""Compare records, files and the plugin's rows.

Every record that holds a file: is the file stored, with that size (and SHA-256, with --hash)?
Every row of the plugin: do its records hold the file? Every stored file that the plugin has named:
does a record reference it? Can anybody read a private file? (One is requested without
credentials.) Files and records are only read.

--missing lists only the records whose file is not stored, one a line, for detach: with --json as
JSON Lines.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.commands.anonymous import READABLE, ask_anonymously
from kinto_attachment.commands.inventory import FOREIGN, KEPT, Inventory
from kinto_attachment.commands.notes import tell_of_folders, tell_of_unknown_bases
from kinto_attachment.commands.options import add_file_options
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.scope import Scope
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.migrations import pending_links
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.names import PRIVATE_PREFIX

Finding = tuple[str, dict[str, Any]]
"""A sentence for people, and fields for machines."""

MISSING = "missing"
"""The problem of a record whose file is not stored: what ``detach`` acts on."""

_MISMATCHES = {
    "named": "the row of {name} names {uri}, which does not hold it",
    "not named": "the row of {name} does not name {uri}, which holds it",
    "holding": "the row of {uri} has {name}, which it does not hold",
    "no holding": "the row of {uri} does not have {name}, which it holds",
    "free": "the row of {name} names no record, and does not say that it is kept or gone",
    "not free": "the row of {name} says that it is kept or gone, and names records",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--hash", action="store_true", help="read every file, and compare its SHA-256"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="make the plugin's rows match the records; files and records are not touched",
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="list only the records whose file is not stored, one a line",
    )
    add_file_options(parser)


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Report what is wrong; return whether all is well. Raises ``Refused``."""
    started = datetime.now(timezone.utc)
    if options.missing and (options.hash or options.repair):
        raise Refused("--missing only lists: it goes with neither --hash nor --repair.")
    excluded = Patterns(options.exclude)
    with site.inventory(excluded, Scope(options.prefix)) as inventory:
        if options.missing:
            report.list_only()
            return not _add(report, chain(_waiting(site), _missing(site, inventory)))
        counts = {**inventory.counts(started - options.older_than), **excluded.counts()}
        tell_of_folders(report, inventory)
        tell_of_unknown_bases(report, inventory, site.settings)
        waiting = _add(report, _waiting(site))
        counts["files missing"] = _add(report, _missing(site, inventory))
        counts["files that differ"] = _add(report, _different(site, inventory, options.hash))
        orphans = _add(report, _orphans(inventory, started - options.older_than))
        counts["files unreferenced"] = orphans
        counts["rows that differ"] = _add(report, _mismatches(inventory))
        counts["files with doubtful privacy"] = _add(report, _doubtful(site, inventory))
        counts["private files for anybody"] = _add_readable(report, site, inventory)
        wrong = waiting + counts["files missing"] + counts["files that differ"] + orphans
        wrong += counts["private files for anybody"]
        wrong += counts["files with doubtful privacy"]
        if options.repair:
            counts["rows repaired"] = _repair(site, inventory)
        else:
            wrong += counts["rows that differ"]
    report.close(counts, ok=not wrong)
    return not wrong


def _add(report: Report, findings: Iterable[Finding]) -> int:
    """Add findings to the report; return how many."""
    count = 0
    for sentence, fields in findings:
        report.finding(sentence, **fields)
        count += 1
    return count


def _add_readable(report: Report, site: Site, inventory: Inventory) -> int:
    """Ask for a private file without credentials; return at how many URLs there is one. That a
    URL could not be asked is told, and is no failure."""
    count = 0
    for sentence, fields in ask_anonymously(site, inventory):
        report.finding(sentence, **fields)
        count += fields["problem"] == READABLE
    return count


def _waiting(site: Site) -> Iterator[Finding]:
    if uploads := pending_links(site.kinto_storage):
        yield (
            f"{uploads} attachments of an earlier version of kinto-attachment have not been taken"
            " over, and are not checked: run kinto migrate",
            {"problem": "not taken over", "uploads": uploads},
        )


def _missing(site: Site, inventory: Inventory) -> Iterator[Finding]:
    for uri, name, attachment in inventory.missing():
        try:
            # The record is read again after the file: it may have another one by now.
            if not site.files.exists(name) and _is_current(site, uri, attachment):
                digest, size = attachment.get("hash"), attachment.get("size")
                yield (
                    f"{uri}: {name} is not stored (SHA-256 {digest}, {size} bytes)",
                    {
                        "problem": MISSING,
                        "record": uri,
                        "name": name,
                        "hash": digest,
                        "size": size,
                    },
                )
        except StorageUnavailable as error:
            yield _unreadable(uri, name, error)


def _different(site: Site, inventory: Inventory, with_hash: bool) -> Iterator[Finding]:
    for name, records, size in progress(inventory.stored(), "contents"):
        digest = None
        if with_hash:
            try:
                digest = _digest(site, name)
            except FileNotFoundError:
                continue  # Deleted since the records were read.
            except StorageUnavailable as error:
                yield _unreadable(records[0][0], name, error)
                continue
        for uri, attachment in records:
            for key, stored in (("size", size), ("hash", digest)):
                shown = attachment.get(key)
                if stored is None or shown == stored or not _is_current(site, uri, attachment):
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


def _orphans(inventory: Inventory, before: datetime) -> Iterator[Finding]:
    for file in inventory.orphans():
        if file.modified < before and file.kind not in (KEPT, FOREIGN):
            yield (
                f"{file.name} is referenced by no record",
                {"problem": "unreferenced", "name": file.name, "size": file.size},
            )


def _mismatches(inventory: Inventory) -> Iterator[Finding]:
    for name, uri, way in inventory.mismatches():
        yield (
            _MISMATCHES[way].format(name=name, uri=uri),
            {"problem": "row", "name": name, "record": uri, "way": way},
        )


def _doubtful(site: Site, inventory: Inventory) -> Iterator[Finding]:
    for name in inventory.doubtful():
        yield (
            f"the row of {name} and its name do not agree whether the file is private: it is"
            " neither served nor deleted",
            {"problem": "privacy", "name": name},
        )
    for file in site.files.public.list(prefix=PRIVATE_PREFIX):
        yield (
            f"{file.name} is in the store of public files, under the name of a private one: move"
            " it away",
            {"problem": "published", "name": file.name},
        )


def _repair(site: Site, inventory: Inventory) -> int:
    count = 0
    for name, group in groupby(inventory.mismatches(), key=itemgetter(0)):
        with site.references() as references:
            references.repair(name, [Holder.at(uri) for _, uri, _ in group if uri is not None])
        count += 1
    return count


def _unreadable(uri: str, name: str, error: StorageUnavailable) -> Finding:
    """Return the finding for a file that may not be read. Raises other errors again."""
    if not isinstance(error.__cause__, PermissionError):
        raise error
    return (
        f"{uri}: {name} cannot be read: {error}",
        {"problem": "unreadable", "record": uri, "name": name, "error": str(error)},
    )


def _is_current(site: Site, uri: str, attachment: dict[str, Any]) -> bool:
    """Whether the record still has this attachment."""
    with site.references() as references:
        record = references.record(Holder.at(uri))
    return record is not None and record.get("attachment") == attachment


def _digest(site: Site, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in site.files.read(name):
        digest.update(chunk)
    return digest.hexdigest()

"""Delete stored files that no record references.

References are read from the records of all buckets. Files stay that are younger than
--older-than, that keep_old_files has kept (but see --kept-older-than), and that --exclude names.
It only tells what it would do, unless --delete is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any, TypeVar

from kinto_attachment.commands.inventory import Inventory, Unreferenced
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Refused, Site, matcher
from kinto_attachment.migrations import waiting_links
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.resumable import IncompleteUpload
from kinto_attachment.tus.store import ResumableUpload, UploadStore

# Rows that are locked at a time.
_BATCH = 100

_Item = TypeVar("_Item")


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Delete, or tell. Returns whether nothing failed. Raises ``Refused``."""
    if waiting := waiting_links(site.kinto_storage):
        raise Refused(
            f"{waiting} attachments of an earlier version of kinto-attachment have not been taken"
            " over: run kinto migrate first."
        )
    started = datetime.now(timezone.utc)
    collector = _Collector(site, report) if options.delete else _Teller(report)
    collector.end(UploadStore(site.kinto_storage).expired())
    with site.inventory(options.exclude) as inventory:
        counts = inventory.counts()
        collector.collect(_doomed(inventory, started, options))
        collector.forget(inventory.gone(started - options.older_than))
        collector.abort(_abandoned(site, inventory, started, options))
    counts |= collector.counts
    report.close(counts, ok=not collector.failed)
    return not collector.failed


def _doomed(
    inventory: Inventory, started: datetime, options: argparse.Namespace
) -> Iterator[Unreferenced]:
    for file in inventory.unreferenced(started - options.older_than):
        if file.kept is None or (
            options.kept_older_than and file.kept < started - options.kept_older_than
        ):
            yield file


def _abandoned(
    site: Site, inventory: Inventory, started: datetime, options: argparse.Namespace
) -> Iterator[IncompleteUpload]:
    is_excluded = matcher(options.exclude)
    for upload in site.files.incomplete():
        if upload.started < started - options.older_than and not (
            is_excluded(upload.name) or inventory.is_needed(upload.id)
        ):
            yield upload


class _Teller:
    """Tells what would be deleted."""

    failed = 0

    def __init__(self, report: Report) -> None:
        self._report = report
        self.counts = {"files to delete": 0, "bytes to delete": 0}

    def end(self, uploads: Iterable[ResumableUpload]) -> None:
        self.counts["uploads to end"] = sum(1 for _ in uploads)

    def collect(self, doomed: Iterable[Unreferenced]) -> None:
        for file in doomed:
            self.counts["files to delete"] += 1
            self.counts["bytes to delete"] += file.size
            self._report.finding(f"{file.name} would be deleted", **_fields(file), deleted=False)

    def forget(self, names: Iterable[str]) -> None:
        self.counts["rows to forget"] = sum(1 for _ in names)

    def abort(self, uploads: Iterable[IncompleteUpload]) -> None:
        self.counts["uploads to abort"] = 0
        for upload in uploads:
            self.counts["uploads to abort"] += 1
            sentence = f"{upload.name}: an upload of {upload.started} would be aborted"
            self._report.finding(sentence, **_fields_of(upload), aborted=False)


class _Collector:
    """Deletes."""

    def __init__(self, site: Site, report: Report) -> None:
        self._site = site
        self._report = report
        self.counts = {"files deleted": 0, "bytes deleted": 0, "rows forgotten": 0}
        self.failed = 0

    def end(self, uploads: Iterable[ResumableUpload]) -> None:
        self.counts["uploads ended"] = 0
        for upload in uploads:
            self._site.end(upload)
            self.counts["uploads ended"] += 1

    def collect(self, doomed: Iterable[Unreferenced]) -> None:
        for batch in _batches(progress(doomed, "deleted")):
            # Committed first: who copies a record from now on is told that its file is gone.
            with self._site.rows() as rows:
                condemned = {file.name: file for file in batch if rows.condemn(file.name)}
            for name, error in self._site.files.delete_many(condemned):
                self._tell(condemned[name], error)

    def forget(self, names: Iterable[str]) -> None:
        for batch in _batches(names):
            with self._site.rows() as rows:
                for name in batch:
                    rows.bury(name)
            self.counts["rows forgotten"] += len(batch)

    def abort(self, uploads: Iterable[IncompleteUpload]) -> None:
        self.counts["uploads aborted"] = 0
        for upload in uploads:
            try:
                self._site.files.abort(upload)
            except StorageUnavailable as error:
                self.failed += 1
                sentence = f"{upload.name}: an upload could not be aborted: {error}"
                fields = {"aborted": False, "error": str(error)}
            else:
                self.counts["uploads aborted"] += 1
                sentence = f"{upload.name}: an upload of {upload.started} aborted"
                fields = {"aborted": True}
            self._report.finding(sentence, **_fields_of(upload), **fields)

    def _tell(self, file: Unreferenced, error: StorageUnavailable | None) -> None:
        if error is None:
            self.counts["files deleted"] += 1
            self.counts["bytes deleted"] += file.size
            self._report.finding(f"{file.name} deleted", **_fields(file), deleted=True)
        else:
            self.failed += 1
            sentence = f"{file.name} could not be deleted: {error}"
            self._report.finding(sentence, **_fields(file), deleted=False, error=str(error))


def _fields(file: Unreferenced) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "kept": file.kept is not None}


def _fields_of(upload: IncompleteUpload) -> dict[str, Any]:
    return {"name": upload.name, "upload": upload.id, "started": upload.started.isoformat()}


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch

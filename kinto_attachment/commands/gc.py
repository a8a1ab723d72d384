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

from kinto_attachment.commands.inventory import Inventory, Orphan
from kinto_attachment.commands.options import add_file_options, age
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Refused, Site, matcher
from kinto_attachment.migrations import pending_links
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.resumable import IncompleteUpload
from kinto_attachment.tus.store import ResumableUpload, UploadStore

_BATCH = 100
"""Rows locked at a time."""

_Item = TypeVar("_Item")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--delete", action="store_true", help="delete; without it, only tell")
    parser.add_argument(
        "--kept-older-than",
        metavar="AGE",
        type=age,
        help="delete also files that keep_old_files has kept for longer than that (30d)",
    )
    add_file_options(parser)


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Delete, or report what would be deleted; return whether nothing failed.

    Raises ``Refused``.
    """
    if pending := pending_links(site.kinto_storage):
        raise Refused(
            f"{pending} attachments of an earlier version of kinto-attachment have not been taken"
            " over: run kinto migrate first."
        )
    started = datetime.now(timezone.utc)
    collection = _Deletion(site, report) if options.delete else _DryRun(report)
    collection.terminate_uploads(UploadStore(site.kinto_storage).expired())
    with site.inventory(options.exclude) as inventory:
        counts = inventory.counts()
        collection.delete_files(_deletable(inventory, started, options))
        collection.forget_rows(inventory.gone(started - options.older_than))
        collection.abort_uploads(_orphaned_uploads(site, inventory, started, options))
    counts |= collection.counts
    report.close(counts, ok=not collection.failed)
    return not collection.failed


def _deletable(
    inventory: Inventory, started: datetime, options: argparse.Namespace
) -> Iterator[Orphan]:
    """Yield orphans, but not those that are still kept."""
    for file in inventory.orphans(started - options.older_than):
        if file.kept is None or (
            options.kept_older_than and file.kept < started - options.kept_older_than
        ):
            yield file


def _orphaned_uploads(
    site: Site, inventory: Inventory, started: datetime, options: argparse.Namespace
) -> Iterator[IncompleteUpload]:
    """Yield the storage's incomplete uploads that no resumable upload needs."""
    is_excluded = matcher(options.exclude)
    for upload in site.files.incomplete():
        if upload.started < started - options.older_than and not (
            is_excluded(upload.name) or inventory.is_needed(upload.id)
        ):
            yield upload


class _DryRun:
    """Reports what would be deleted."""

    failed = 0

    def __init__(self, report: Report) -> None:
        self._report = report
        self.counts = {"files to delete": 0, "bytes to delete": 0}

    def terminate_uploads(self, uploads: Iterable[ResumableUpload]) -> None:
        self.counts["uploads to end"] = sum(1 for _ in uploads)

    def delete_files(self, orphans: Iterable[Orphan]) -> None:
        for file in orphans:
            self.counts["files to delete"] += 1
            self.counts["bytes to delete"] += file.size
            self._report.finding(f"{file.name} would be deleted", **_fields(file), deleted=False)

    def forget_rows(self, names: Iterable[str]) -> None:
        self.counts["rows to forget"] = sum(1 for _ in names)

    def abort_uploads(self, uploads: Iterable[IncompleteUpload]) -> None:
        self.counts["uploads to abort"] = 0
        for upload in uploads:
            self.counts["uploads to abort"] += 1
            sentence = f"{upload.name}: an upload of {upload.started} would be aborted"
            self._report.finding(sentence, **_fields_of(upload), aborted=False)


class _Deletion:
    """Deletes, and reports it."""

    def __init__(self, site: Site, report: Report) -> None:
        self._site = site
        self._report = report
        self.counts = {"files deleted": 0, "bytes deleted": 0, "rows forgotten": 0}
        self.failed = 0

    def terminate_uploads(self, uploads: Iterable[ResumableUpload]) -> None:
        """Terminate resumable uploads."""
        self.counts["uploads ended"] = 0
        for upload in uploads:
            self._site.terminate(upload)
            self.counts["uploads ended"] += 1

    def delete_files(self, orphans: Iterable[Orphan]) -> None:
        """Delete files that no record references by now."""
        for batch in _batches(progress(orphans, "deleted")):
            # Committed before files are deleted: from then on, no record can become a holder.
            with self._site.references() as references:
                marked = {file.name: file for file in batch if references.mark_gone(file.name)}
            for name, error in self._site.files.delete_many(marked):
                self._report_file(marked[name], error)

    def forget_rows(self, names: Iterable[str]) -> None:
        """Delete the rows of files that were deleted."""
        for batch in _batches(names):
            with self._site.references() as references:
                for name in batch:
                    references.forget_gone(name)
            self.counts["rows forgotten"] += len(batch)

    def abort_uploads(self, uploads: Iterable[IncompleteUpload]) -> None:
        """Abort incomplete uploads in the storage."""
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

    def _report_file(self, file: Orphan, error: StorageUnavailable | None) -> None:
        if error is None:
            self.counts["files deleted"] += 1
            self.counts["bytes deleted"] += file.size
            self._report.finding(f"{file.name} deleted", **_fields(file), deleted=True)
        else:
            self.failed += 1
            sentence = f"{file.name} could not be deleted: {error}"
            self._report.finding(sentence, **_fields(file), deleted=False, error=str(error))


def _fields(file: Orphan) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "kept": file.kept is not None}


def _fields_of(upload: IncompleteUpload) -> dict[str, Any]:
    return {"name": upload.name, "upload": upload.id, "started": upload.started.isoformat()}


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch

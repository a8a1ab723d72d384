"""What ``gc`` does with orphans: delete them, or tell what would be deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kinto_attachment.commands.batches import batches
from kinto_attachment.commands.inventory import KEPT, Orphan
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Site
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.resumable import IncompleteUpload
from kinto_attachment.tus.store import ResumableUpload

_LEFT = {True: "is kept", False: "is foreign: the plugin gives no such name"}


class DryRun:
    """Reports what would be deleted, and what would stay."""

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
            self._report.finding(
                f"{file.name} would be deleted ({file.kind}, {file.size:,} bytes)",
                **_fields(file),
                deleted=False,
            )

    def leave_files(self, orphans: Iterable[Orphan]) -> None:
        for file in orphans:
            reason = _LEFT[file.kind == KEPT]
            sentence = f"{file.name} {reason} ({file.size:,} bytes)"
            self._report.finding(sentence, **_fields(file), deleted=False, left=True)

    def forget_rows(self, names: Iterable[str]) -> None:
        self.counts["rows to forget"] = sum(1 for _ in names)

    def abort_uploads(self, uploads: Iterable[IncompleteUpload]) -> None:
        self.counts["uploads to abort"] = 0
        for upload in uploads:
            self.counts["uploads to abort"] += 1
            sentence = f"{upload.name}: an upload of {upload.started} would be aborted"
            self._report.finding(sentence, **_fields_of(upload), aborted=False)


class Deletion:
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
        """Delete files that no record references by now, and no resumable upload needs."""
        for batch in batches(progress(orphans, "deleted")):
            # Before records: an upload that is done has written its record.
            needed = self._site.needed()
            free = [file for file in batch if file.name not in needed]
            # Committed before files are deleted: from then on, no record can become a holder.
            with self._site.references() as references:
                marked = {file.name: file for file in free if references.mark_gone(file.name)}
            for name, error in self._site.files.delete_many(marked):
                self._report_file(marked[name], error)

    def leave_files(self, orphans: Iterable[Orphan]) -> None:
        """Do nothing: the counts say how many."""

    def forget_rows(self, names: Iterable[str]) -> None:
        """Delete the rows of files that were deleted."""
        for batch in batches(names):
            with self._site.references() as references:
                for name in batch:
                    references.forget_gone(name)
            self.counts["rows forgotten"] += len(batch)

    def abort_uploads(self, uploads: Iterable[IncompleteUpload]) -> None:
        """Abort incomplete uploads in the storage that no resumable upload needs by now."""
        self.counts["uploads aborted"] = 0
        for batch in batches(uploads):
            needed = self._site.needed()
            for upload in batch:
                if needed.isdisjoint({upload.id, upload.name}):
                    self._abort(upload)

    def _abort(self, upload: IncompleteUpload) -> None:
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
    return {
        "name": file.name,
        "size": file.size,
        "kind": file.kind,
        "kept": file.kept is not None,
        "marked": None if file.marked is None else file.marked.isoformat(),
    }


def _fields_of(upload: IncompleteUpload) -> dict[str, Any]:
    return {"name": upload.name, "upload": upload.id, "started": upload.started.isoformat()}

"""Detach the files that are missing from their records.

LIST is what check --missing --json has printed, or some of its lines. Records are written as by
any client: they get a new timestamp, and history and other plugins see them. A record that has
another file by now, or whose file is back, stays as it is. It only tells what it would do, unless
--write is given.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TextIO

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.authorization import AttachmentContext, check_record_id
from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import References
from kinto_attachment.commands import edits, evidence
from kinto_attachment.commands.check import MISSING
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Refused, Site
from kinto_attachment.errors import UnknownCollection

logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "list", metavar="LIST", type=Path, help="file with the output of check --missing --json"
    )
    parser.add_argument("--write", action="store_true", help="write; without it, only tell")
    parser.add_argument(
        "--allow-many",
        action="store_true",
        help="write also if LIST has more than 100 records, and more than a tenth of all that have"
        " a file",
    )


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Detach files, or report which; return whether nothing failed.

    Raises ``Refused``: before it changes anything, or if the storage vanishes meanwhile.
    """
    evidence.check_settings(site)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as entries:
        count = _copy_list(options.list, entries)
        evidence.check_marks(site)
        doubt = None if options.allow_many else evidence.doubt_missing(site, count)
        if doubt and options.write:
            raise Refused(doubt)
        if doubt:
            report.finding(f"--write would be refused: {doubt}", problem="doubt", text=doubt)
        entries.seek(0)
        detachment = _Detachment(site, report, write=options.write)
        detachment.run(map(json.loads, progress(entries, "records", count)))
    report.close(detachment.counts, ok=not detachment.counts["failures"])
    return not detachment.counts["failures"]


def _copy_list(path: Path, entries: TextIO) -> int:
    """Write down which records the list names, and which file of each; return how many.

    Raises ``OSError``, and ``Refused`` if it is no such list.
    """
    count = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                finding = json.loads(line)
                if finding["problem"] != MISSING:
                    continue
                entry = (Holder.at(finding["record"]).uri, finding["name"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Refused(
                    f"{path}, line {number} is none of check --missing --json: {line[:200]!r}"
                ) from error
            entries.write(f"{json.dumps(entry)}\n")
            count += 1
    return count


class _Detachment:
    """Detaches files that are not stored from records, and reports it."""

    def __init__(self, site: Site, report: Report, *, write: bool) -> None:
        self._site = site
        self._report = report
        self._write = write
        self._names: dict[Holder, str] = {}
        self._written: dict[Holder, bool] = {}
        self._done = "records written" if write else "records to write"
        self.counts = {self._done: 0, "records left as they are": 0, "failures": 0}

    def run(self, entries: Iterable[tuple[str, str]]) -> None:
        """Detach files, given by the record's URI and the file's name. Raises ``Refused`` and
        ``StorageUnavailable`` before any batch."""
        pairs = ((Holder.at(uri), name) for uri, name in entries)
        for _, group in groupby(pairs, key=lambda pair: pair[0].parent_id):
            while batch := dict(islice(group, edits.BATCH)):
                self._run_batch(batch)

    def _run_batch(self, names: dict[Holder, str]) -> None:
        self._names = names
        # Asked first without a lock: a storage that is down ends the command.
        self._written = {holder: self._is_missing(holder) for holder in names}
        failed: dict[Holder, Exception] = {}
        missing = [holder for holder in names if self._written[holder]]
        if self._write and missing:
            # A disk that comes and goes has been the reason for many a list.
            evidence.check_marks(self._site)
            _, failed = edits.apply(self._site.registry, missing, self._edit)
        for holder, name in names.items():
            if holder in failed:
                self._fail(holder, name, failed[holder])
            else:
                self._tell(holder, name)

    def _is_missing(self, holder: Holder) -> bool:
        with self._site.references() as references:
            return self._lacks_file(references, holder)

    def _lacks_file(self, references: References, holder: Holder) -> bool:
        """Whether the record still references its file, and that is not stored."""
        name = self._names[holder]
        return references.referenced_by(holder) == name and not self._site.files.exists(name)

    def _edit(self, request: Any, holder: Holder) -> bool:
        """Detach the file from one record, unless it has another one, or the file is back."""
        self._written[holder] = False
        # As if a client detached it, so that the record and its collection are locked.
        request.method = "DELETE"
        check_record_id(request)
        try:
            context = AttachmentContext(request, locked=True)
        except UnknownCollection:
            return False
        changes = FileChanges.current(self._site.files)
        references = References(self._site.kinto_storage, self._site.settings, changes)
        record = context.current_object
        if record is None or not self._lacks_file(references, holder):
            return False
        without = records.without_file(request, context, record)
        edits.update(request, holder, record, records.processed(request, context, without))
        self._written[holder] = True
        return True

    def _tell(self, holder: Holder, name: str) -> None:
        fields = {"record": holder.uri, "name": name, "detached": False}
        if not self._written[holder]:
            self.counts["records left as they are"] += 1
            sentence = f"{holder.uri} stays as it is: {name} is back, or not its file any more"
        else:
            self.counts[self._done] += 1
            done = "detached" if self._write else "would be detached"
            sentence = f"{holder.uri}: {name} {done}"
            fields["detached"] = self._write
        self._report.finding(sentence, **fields)

    def _fail(self, holder: Holder, name: str, error: Exception) -> None:
        self.counts["failures"] += 1
        logger.debug("%s was not written.", holder.uri, exc_info=error)
        self._report.finding(
            f"{holder.uri} stays as it is: {edits.reason(error)}",
            problem="record",
            record=holder.uri,
            name=name,
        )

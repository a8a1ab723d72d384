"""Put files back from a backup: those that records reference, and that are not stored.

Of a folder, all files are looked at. Each is found by its SHA-256 and size, so it does not matter
what it is called in the backup, and gets the name that the plugin's rows have for it, with the
media type and Cache-Control that an upload would give it. No stored file is replaced, and none is
stored that no record needs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from kinto_attachment.commands import evidence
from kinto_attachment.commands.inventory import Inventory, KnownFile
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.commands.report import Report, progress
from kinto_attachment.commands.site import Site
from kinto_attachment.commands.target import Target
from kinto_attachment.commands.transfer import (
    BYTES,
    COPIED,
    FAILED,
    ONLY_THERE,
    PROBLEMS,
    THERE,
    TO_COPY,
    Transfer,
)
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.local import LocalStorage

_TITLES = {
    COPIED: "files restored",
    TO_COPY: "files to restore",
    BYTES[COPIED]: "bytes restored",
    BYTES[TO_COPY]: "bytes to restore",
    ONLY_THERE: THERE,
}
"""Titles of counts, where they differ from those of a copy."""
_SENTENCES = {
    COPIED: "restored",
    TO_COPY: "would be restored",
    THERE: "is there already",
    ONLY_THERE: "is there already",
}
_FILES = "files of the backup"
_NOT_NEEDED = "files not needed"
_UNREADABLE = "files or folders that cannot be read"
_MAX_FAILURES = 50
"""Failures in a row after which the other files are not tried."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "paths", metavar="FILE", nargs="+", type=Path, help="file or folder of the backup"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be restored, and write nothing"
    )


def run(site: Site, options: argparse.Namespace, report: Report) -> bool:
    """Restore files, or report which; return whether nothing failed.

    Raises ``Refused`` before it writes anything, and ``OSError`` if a path does not exist.
    """
    evidence.check_settings(site)
    # Of a symbolic link, what it leads to is meant. Path.resolve() has an error of its own for one
    # that leads to itself.
    paths = [Path(os.path.realpath(path, strict=True)) for path in options.paths]
    with site.inventory(Patterns([])) as inventory:
        evidence.check_site(site, inventory, deletes=False)
        backup = _Backup(inventory, report, paths, dry_run=options.dry_run)
        target = Target(site.settings, site.files)
        transfer = Transfer(site, target, dry_run=options.dry_run, source=backup.source)
        counts = _transfer(report, transfer, backup.files())
    ok = not backup.failures and not any(counts[title] for title in PROBLEMS)
    report.close({**backup.counts, **counts}, ok=ok)
    return ok


class _Backup:
    """Finds the files of a backup that are to be stored."""

    def __init__(
        self, inventory: Inventory, report: Report, paths: list[Path], *, dry_run: bool
    ) -> None:
        inventory.index_contents()
        self._inventory = inventory
        self._report = report
        self._paths = paths
        self._dry_run = dry_run
        self.source = LocalStorage("/")
        """Has the files of the backup."""
        self.counts = {_FILES: 0, _NOT_NEEDED: 0, _UNREADABLE: 0}
        self.failures = 0

    def files(self) -> Iterator[KnownFile]:
        """Yield what to store, as ``path`` of the source."""
        for path in self._paths:
            if path.is_dir():
                for found in progress(LocalStorage(path).list(self._fail_to_read), "backup"):
                    yield from self._find(f"{path}/{found.name}", is_named=False)
            else:
                yield from self._find(str(path), is_named=True)

    def _find(self, path: str, *, is_named: bool) -> Iterator[KnownFile]:
        """Yield the files with this content that are not stored; if the operator has named it,
        also those that are. Of the others, reads only those of the size of a missing one."""
        self.counts[_FILES] += 1
        inner = path.lstrip("/")
        try:
            size = self.source.stat(inner).size
            if not is_named and not self._inventory.lacks_size(size):
                self.counts[_NOT_NEEDED] += 1
                return
            sha256 = self._digest(inner)
        except (FileNotFoundError, StorageUnavailable) as error:
            self._fail_to_read(path, error)
            return
        names = self._inventory.names_of(sha256, size, stored=is_named)
        if not names:
            self.counts[_NOT_NEEDED] += 1
            if is_named:
                self._fail(path, f"no record needs a file with its SHA-256 ({sha256}) and size")
        for name in names:
            # A second copy is of use if the first cannot be stored.
            if not self._dry_run or self._inventory.is_first(name):
                yield KnownFile(name, size, inner)

    def _digest(self, inner: str) -> str:
        digest = hashlib.sha256()
        for chunk in self.source.read(inner):
            digest.update(chunk)
        return digest.hexdigest()

    def _fail_to_read(self, path: str, error: Exception) -> None:
        self.counts[_UNREADABLE] += 1
        self._fail(path, str(error))

    def _fail(self, path: str, reason: str) -> None:
        self.failures += 1
        sentence = f"{path} is not restored: {reason}"
        self._report.finding(sentence, problem="backup", path=path, text=sentence)


def _transfer(report: Report, transfer: Transfer, files: Iterator[KnownFile]) -> dict[str, int]:
    """Transfer the files; return the counts."""
    counts = {_TITLES.get(title, title): 0 for title in transfer.titles}
    failures = 0
    with closing(transfer.all(files)) as outcomes:
        for outcome in outcomes:
            for title, count in ((outcome.title, 1), (BYTES.get(outcome.title), outcome.size)):
                if title is not None:
                    counts[_TITLES.get(title, title)] += count
            sentence = outcome.sentence
            if outcome.title in _SENTENCES:
                done = _SENTENCES[outcome.title]
                sentence = f"{outcome.name} {done} ({outcome.size:,} bytes)"
            if sentence:
                report.finding(
                    sentence,
                    problem=PROBLEMS.get(outcome.title),
                    name=outcome.name,
                    size=outcome.size,
                    restored=outcome.title == COPIED,
                    text=sentence,
                )
            failures = failures + 1 if outcome.title == FAILED else 0
            if failures == _MAX_FAILURES:
                sentence = f"{failures} files in a row failed: the others were not tried"
                report.finding(sentence, problem="untried")
                break
    return counts

"""Which orphans the options of ``gc`` mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from kinto_attachment.commands.inventory import FOREIGN, KEPT, STRAY, Inventory, Orphan
from kinto_attachment.commands.patterns import Patterns
from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.resumable import IncompleteUpload


class Selection:
    """Orphans of an inventory, and unfinished uploads in the storage."""

    def __init__(
        self, inventory: Inventory, files: FileStorage, options: argparse.Namespace
    ) -> None:
        started = datetime.now(timezone.utc)
        self.before: datetime = started - options.older_than
        """Files and uploads that are younger stay."""
        self._kept_before = _before(started, options.kept_older_than)
        self._marked_before = _before(started, options.marked_for)
        self._foreign = Patterns(options.foreign)
        self._excluded = Patterns(options.exclude)
        self._inventory = inventory
        self._files = files

    def deletable(self) -> Iterator[Orphan]:
        """Yield orphans to delete."""
        return filter(self._is_deletable, self._inventory.orphans())

    def count_strays(self) -> int:
        """Count orphans to delete of which the database knows nothing."""
        return sum(file.kind == STRAY for file in self.deletable())

    def unmarked(self) -> Iterator[str]:
        """Yield names of orphans to delete but for their mark, which they do not have."""
        for file in self._inventory.orphans():
            if file.marked is None and self._may_go(file):
                yield file.name

    def left(self) -> Iterator[Orphan]:
        """Yield kept and foreign files that stay."""
        for file in self._inventory.orphans():
            if file.kind in (KEPT, FOREIGN) and not self._is_deletable(file):
                yield file

    def uploads(self) -> Iterator[IncompleteUpload]:
        """Yield the storage's incomplete uploads that no resumable upload needs."""
        for upload in self._files.incomplete():
            if (
                upload.started < self.before
                and self._inventory.scope.covers(upload.name)
                and (self._inventory.is_own(upload.name) or self._foreign.matches(upload.name))
                and not self._excluded.matches(upload.name)
                and not self._inventory.is_needed(upload)
            ):
                yield upload

    def is_empty(self) -> bool:
        """Whether there is nothing to delete in the storage."""
        return next(self.deletable(), None) is None and next(self.uploads(), None) is None

    def _is_deletable(self, file: Orphan) -> bool:
        if self._marked_before is not None and (
            file.marked is None or file.marked > self._marked_before
        ):
            return False
        return self._may_go(file)

    def _may_go(self, file: Orphan) -> bool:
        if file.modified >= self.before:
            return False
        if file.kind == FOREIGN:
            return self._foreign.matches(file.name)
        if file.kept is not None:
            return self._kept_before is not None and file.kept < self._kept_before
        return True


def _before(started: datetime, age: timedelta | None) -> datetime | None:
    return None if age is None else started - age

"""A file that one request sends to the local disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kinto_attachment.storage import names
from kinto_attachment.storage.local.disk import disk_errors
from kinto_attachment.storage.local.hidden_file import HiddenFile
from kinto_attachment.storage.staged import IsUsed, NewFile, StagedFile


class LocalStagedFile(StagedFile):
    """Writes a hidden file; ``finish()`` links it to its name, and syncs both."""

    def __init__(self, root: Path, new: NewFile) -> None:
        self._new = new
        self._file = HiddenFile(root, new.make_name(), names.hidden())
        with disk_errors(f"write to {root}"):
            self._file.create()

    def _write(self, chunk: bytes) -> None:
        with disk_errors(f"write to {self._file.path}"):
            self._file.write(chunk)

    def _finish(self, is_used: IsUsed | None) -> str:
        with disk_errors(self._file.storing):
            if not self._new.is_random:
                # Whoever knows the name takes what it finds for the whole file.
                self._file.sync()
            free_name = self._file.free_name()
        claim = self._file.claim(None if self._new.is_random else is_used)
        if self._new.exact_name:
            name = claim.exactly(self._file.name)
        else:
            name = claim.first_free(free_name)
        with disk_errors(self._file.storing):
            self._file.remove()
            if self._new.is_random:
                # The name goes to the disk with the content: one commit of a journal, not two.
                self._file.sync()
            self._file.sync_folders(name)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # each of them, whichever fails
            steps.callback(self._file.unpublish)
            steps.callback(self._file.remove)
            steps.callback(self._file.close)

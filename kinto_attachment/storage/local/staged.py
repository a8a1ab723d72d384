"""A file that one request sends to the local disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kinto_attachment.storage import names
from kinto_attachment.storage.local.disk import disk_errors
from kinto_attachment.storage.local.hidden_file import HiddenFile
from kinto_attachment.storage.staged import IsUsed, NewFile, StagedFile


class LocalStagedFile(StagedFile):
    """Writes a hidden file; ``finish()`` syncs it, and links it to its name."""

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
            self._file.sync()
        claim = self._file.claim(None if self._new.is_random else is_used)
        wanted = self._file.name
        name = claim.exactly(wanted) if self._new.exact_name else claim.first_free(wanted)
        with disk_errors(self._file.storing):
            self._file.remove()
            self._file.sync_folders(name)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # each of them, whichever fails
            steps.callback(self._file.unpublish)
            steps.callback(self._file.remove)
            steps.callback(self._file.close)

"""A file that one request sends to the local disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kinto_attachment.storage import names
from kinto_attachment.storage.local.disk import disk_errors
from kinto_attachment.storage.local.hidden_file import HiddenFile
from kinto_attachment.storage.staged import NewFile, StagedFile


class LocalStagedFile(StagedFile):
    """Writes a hidden file; ``finish()`` syncs it, and links it to its name."""

    def __init__(self, root: Path, new: NewFile) -> None:
        self._file = HiddenFile(root, new.make_name(), names.hidden())
        with disk_errors(f"write to {root}"):
            self._file.create()

    def _write(self, chunk: bytes) -> None:
        with disk_errors(f"write to {self._file.path}"):
            self._file.write(chunk)

    def _finish(self) -> str:
        with disk_errors(f"store {self._file.name} in {self._file.root}"):
            name = self._file.publish()
            self._file.remove()
            self._file.sync_folders(name)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # each of them, whichever fails
            steps.callback(self._file.unpublish)
            steps.callback(self._file.remove)
            steps.callback(self._file.close)

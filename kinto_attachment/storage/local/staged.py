"""A file on its way to the local disk: hidden, then synced, and linked into place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kinto_attachment.storage import names
from kinto_attachment.storage.base import StagedFile
from kinto_attachment.storage.local.disk import disk_errors, in_folder, sync_folder

_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class PartFile:
    """A hidden file in ``root`` itself, so that the link to its name, which is relative to
    ``root``, stays in one file system. Its methods raise ``OSError``."""

    def __init__(self, root: Path, name: str, part: str) -> None:
        self.root = root
        self.name = name
        self.path = root / part
        self.fd = -1
        self._linked: Path | None = None

    def make(self) -> None:
        """Create it, and open it."""
        # Not tempfile's mode 0600: whoever serves the files may be another user.
        flags = _FLAGS | os.O_CREAT | os.O_EXCL
        self.fd = in_folder(self.root, lambda: os.open(self.path, flags, 0o666))

    def open(self, path: Path) -> None:
        """Open what another process has created, by one of its names."""
        self.fd = os.open(path, _FLAGS)

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def publish(self) -> str:
        """Make the content durable, and give it its name, or the next free one, besides the
        hidden one. Then nothing more can be written."""
        os.fsync(self.fd)
        # Some file systems report a failed write only here.
        self.close()
        return names.claim(self.name, self._link, self._taken)

    def sync_folders(self, name: str) -> None:
        """Make the name durable that it got."""
        # Every folder up to the root: one of them may have been made by another process,
        # that has not come to syncing its parent yet.
        folder = (self.root / name).parent
        sync_folder(folder)
        while folder != self.root:
            folder = folder.parent
            sync_folder(folder)

    def hide(self) -> None:
        """Take back the name that ``publish()`` has given."""
        if self._linked is not None:
            self._linked.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the hidden name."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _link(self, name: str) -> bool:
        """Give the file this name as well, unless it is taken: the kernel decides, atomically."""
        path = self.root / name
        try:
            in_folder(path.parent, lambda: path.hardlink_to(self.path))
        except FileExistsError:
            return False
        self._linked = path
        return True

    def _taken(self, name: str) -> bool:
        return os.path.lexists(self.root / name)


class LocalStagedFile(StagedFile):
    """A file that one request sends."""

    def __init__(self, root: Path, name: str) -> None:
        self._part = PartFile(root, name, names.part())
        with disk_errors(f"write to {root}"):
            self._part.make()

    def _write(self, chunk: bytes) -> None:
        with disk_errors(f"write to {self._part.path}"):
            self._part.write(chunk)

    def _finish(self) -> str:
        with disk_errors(f"store {self._part.name} in {self._part.root}"):
            name = self._part.publish()
            self._part.remove()
            self._part.sync_folders(name)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # every one of them, whichever fails
            steps.callback(self._part.hide)
            steps.callback(self._part.remove)
            steps.callback(self._part.close)

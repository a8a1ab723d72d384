"""The hidden file that an upload to the local disk writes, until it is linked to its name."""

from __future__ import annotations

import os
from pathlib import Path

from kinto_attachment.storage import names
from kinto_attachment.storage.local.disk import disk_errors, in_folder, sync_folder
from kinto_attachment.storage.staged import IsUsed

_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class HiddenFile:
    """A file in ``root`` itself: the link to ``name``, relative to ``root``, stays in one file
    system. Unless said otherwise, its methods raise ``OSError``."""

    def __init__(self, root: Path, name: str, hidden_name: str) -> None:
        self.root = root
        self.name = name
        self.path = root / hidden_name
        self.storing = f"store {name} in {root}"
        self.fd = -1
        self._published: Path | None = None

    def create(self) -> None:
        """Create and open it."""
        # Not tempfile's mode 0600: the web server that reads the files may be another user.
        flags = _FLAGS | os.O_CREAT | os.O_EXCL
        self.fd = in_folder(self.root, lambda: os.open(self.path, flags, 0o666))

    def open(self, path: Path) -> None:
        """Open what another process has created, by one of its names."""
        self.fd = os.open(path, _FLAGS)

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def sync(self) -> None:
        """Make the content durable. Closes the file."""
        os.fsync(self.fd)
        # Some file systems report a failed write only here.
        self.close()

    def claim(self, is_used: IsUsed | None) -> names.Claim:
        """Return how to link the file to a name. Raises ``StorageUnavailable``;
        ``FileNotFoundError`` if another process has finished the file meanwhile."""
        return names.Claim(self._link, self._give_back, self._exists, is_used)

    def sync_folders(self, name: str) -> None:
        """Make the published name durable."""
        # Every folder up to the root: another process may have made one of them, and not synced
        # its parent yet.
        folder = (self.root / name).parent
        sync_folder(folder)
        while folder != self.root:
            folder = folder.parent
            sync_folder(folder)

    def unpublish(self) -> None:
        """Undo the link to the last name."""
        if self._published is not None:
            self._published.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the hidden name."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _link(self, name: str) -> bool:
        """Link the file to this name, unless it is taken: the kernel decides, atomically."""
        path = self.root / name
        with disk_errors(self.storing):
            try:
                in_folder(path.parent, lambda: path.hardlink_to(self.path))
            except FileExistsError:
                return False
        self._published = path
        return True

    def _give_back(self, name: str) -> None:
        # Without the hidden name, another process has finished the file, and may have returned
        # this very name: that is why it is used.
        with disk_errors(self.storing, self.name):
            inode = self.path.lstat()
        with disk_errors(self.storing):
            if is_same_file(self.root / name, inode):
                (self.root / name).unlink(missing_ok=True)
        self._published = None

    def _exists(self, name: str) -> bool:
        return os.path.lexists(self.root / name)


def is_same_file(path: Path, inode: os.stat_result) -> bool:
    """Whether ``path`` is a name of the file of ``inode``."""
    try:
        return os.path.samestat(path.lstat(), inode)
    except (FileNotFoundError, NotADirectoryError):
        return False

"""A small disk of its own for a server: a tmpfs that only its processes see.

Linux gives one to root, and to others where it lets them make user namespaces.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'


class SmallDisk:
    """A disk of ``size`` bytes on the existing folder ``path``, for what runs in ``wrapper``."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises ``RuntimeError`` where the system gives none."""
        self.path = path
        as_root = () if os.geteuid() == 0 else ("--map-root-user",)
        self.wrapper = (
            *("unshare", "--mount", *as_root),
            *("sh", "-c", _MOUNT, str(size), str(path)),
        )
        """A command that executes the one after it, on the disk and in its own process."""
        try:
            self._run([*self.wrapper, "true"])
        except (OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "stderr", "")
            raise RuntimeError(f"no disk of its own for a server: {error} {output}") from error

    def folder(self, pid: int) -> Path:
        """The disk, seen from here; ``pid`` is a process that has it."""
        return Path(f"/proc/{pid}/root{self.path}")

    def remount(self, pid: int, option: str) -> None:
        """Make it read-only (``ro``), or writable (``rw``)."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        enter = ("nsenter", f"--target={pid}", "--mount", *user)
        # Of the file system itself not everything can be repeated in a user namespace.
        self._run([*enter, "mount", "-o", f"remount,bind,{option}", str(self.path)])

    @staticmethod
    def _run(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)

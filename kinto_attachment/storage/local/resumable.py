"""A file on the local disk that several requests send: its hidden file stays from one to the next.

A state has the length that the file had: a checkpoint is an fsync, and what a killed process wrote
after it is cut off.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.local.disk import disk_errors, sync_folder
from kinto_attachment.storage.local.staged import PartFile
from kinto_attachment.storage.resumable import ResumableFile, State, attempt

_STORAGE = "local"


def create(root: Path, name: str, *, keep_name: bool) -> State:
    """Make the hidden file, durably; return the state."""
    upload = str(uuid4())
    part = PartFile(root, name, names.part(upload))
    with disk_errors(f"write to {root}"), contextlib.ExitStack() as undo:
        part.make()
        undo.callback(part.remove)
        part.close()
        sync_folder(root)
        undo.pop_all()
    return {
        "storage": _STORAGE,
        "id": upload,
        "name": name,
        "keep_name": keep_name,
        "offset": 0,
    }


def part_of(state: State) -> str:
    """The hidden name; none if the state is that of another storage."""
    return names.part(state["id"]) if state["storage"] == _STORAGE else ""


def cancel(root: Path, state: State) -> None:
    """Remove the hidden file. Raises ``OSError``."""
    if part := part_of(state):
        (root / part).unlink(missing_ok=True)


class LocalResumableFile(ResumableFile):
    """A hidden file, opened at the offset of ``state``.

    ``finish()`` gives it a visible name, and only then takes the hidden one. Where a process died
    between the two, nobody has been told the visible name: the file can still be finished under
    it, or lose it and take more bytes.
    """

    def __init__(self, root: Path, state: State) -> None:
        super().__init__(state["offset"])
        self._state = state
        name = state["name"]
        part = part_of(state)
        if not part:
            raise names.no_such_file(name)
        self._part = PartFile(root, name, part)
        self._visible: str | None = None
        self._is_finished = False
        try:
            with disk_errors(f"resume {name} in {root}", name):
                self._open()
                self._visible = self._visible_name()
                size = os.fstat(self._part.fd).st_size
            if size < self.offset or (self._is_finished and size > self.offset):
                raise names.no_such_file(name)
            if size > self.offset:
                self._hide()
                with disk_errors(f"write to {self._part.path}"):
                    os.ftruncate(self._part.fd, self.offset)
        except BaseException:
            self.close()
            raise

    def _write(self, chunk: bytes) -> None:
        if chunk:
            self._hide()
        with disk_errors(f"write to {self._part.path}"):
            self._part.write(chunk)

    def _checkpoint(self) -> State:
        with disk_errors(f"write to {self._part.path}"):
            os.fsync(self._part.fd)
        return {**self._state, "offset": self.offset}

    def _finish(self) -> str:
        doing = f"store {self._part.name} in {self._part.root}"
        with disk_errors(doing, self._part.name):
            name = self._visible_name()
        with disk_errors(doing), contextlib.ExitStack() as undo:
            undo.callback(self._part.hide)
            if name is None:
                name = self._part.publish()
            # First, or a power cut could take the hidden name and leave no other.
            self._part.sync_folders(name)
            undo.pop_all()
        # The file is stored: this must not fail it.
        attempt("remove what is left of an upload", self._part.remove)
        return name

    def _discard(self) -> None:
        cancel(self._part.root, self._state)

    def _close(self) -> None:
        self._part.close()

    def _open(self) -> None:
        try:
            self._part.open(self._part.path)
        except FileNotFoundError:
            if self._state["keep_name"]:
                raise
            # Nobody else has this random name: it is there because the file was finished.
            self._part.open(self._part.root / self._part.name)
            self._is_finished = True
        os.lseek(self._part.fd, self.offset, os.SEEK_SET)

    def _hide(self) -> None:
        """What is written next must be seen by nobody."""
        if self._is_finished:
            raise names.no_such_file(self._part.name)
        visible, self._visible = self._visible, None
        if visible is not None:
            with disk_errors(f"write to {self._part.path}"):
                (self._part.root / visible).unlink(missing_ok=True)

    def _visible_name(self) -> str | None:
        """The name besides the hidden one, if any. Raises ``FileNotFoundError`` if the file has
        neither."""
        part = self._part
        inode = os.fstat(part.fd)
        is_hidden = _is(part.path, inode)
        if inode.st_nlink > is_hidden:
            if _is(part.root / part.name, inode):
                return part.name
            # That one may have been taken. (Or a backup program has linked it elsewhere.)
            folder = (part.root / part.name).parent
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if entry.inode() == inode.st_ino and path != part.path and _is(path, inode):
                        return path.relative_to(part.root).as_posix()
        if not is_hidden:
            raise names.no_such_file(part.name)
        return None


def _is(path: Path, inode: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), inode)
    except (FileNotFoundError, NotADirectoryError):
        return False

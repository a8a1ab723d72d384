"""A file that several requests send to the local disk: its hidden file stays between requests.

A checkpoint is an fsync, and its state holds the offset: ``resume()`` cuts off what was written
after it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.local.disk import disk_errors, sync_folder
from kinto_attachment.storage.local.hidden_file import HiddenFile, is_same_file
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.staged import IsUsed, NewFile

_STORAGE = "local"


def create(root: Path, new: NewFile) -> State:
    """Create the hidden file, durably; return the first state."""
    if new.exact_name:
        raise TypeError("only a staged file has an exact name")
    upload, name = str(uuid4()), new.make_name()
    file = HiddenFile(root, name, names.hidden(upload))
    with disk_errors(f"write to {root}"), contextlib.ExitStack() as undo:
        file.create()
        undo.callback(file.remove)
        file.close()
        sync_folder(root)
        undo.pop_all()
    return {
        "storage": _STORAGE,
        "id": upload,
        "name": name,
        "keep_name": not new.is_random,
        "offset": 0,
    }


def hidden_name(state: State) -> str:
    """Return the name of the hidden file; an empty one if the state is of another storage."""
    return names.hidden(state["id"]) if state["storage"] == _STORAGE else ""


def used_by(state: State) -> frozenset[str]:
    """Return the names that the file has, or may get at any moment."""
    visible = "" if state.get("keep_name", True) else state["name"]
    return frozenset(filter(None, [hidden_name(state), visible]))


def cancel(root: Path, state: State) -> None:
    """Remove the hidden file. Raises ``OSError``."""
    if hidden := hidden_name(state):
        (root / hidden).unlink(missing_ok=True)


class LocalResumableFile(ResumableFile):
    """A hidden file, opened at the offset of ``state``.

    ``finish()`` links it to a visible name, and removes the hidden one last. If the process dies
    in between, no caller knows the visible name: the file can still be finished under it, or
    lose it and take more bytes.
    """

    def __init__(self, root: Path, state: State) -> None:
        super().__init__(state["offset"])
        self._state = state
        name = state["name"]
        hidden = hidden_name(state)
        if not hidden:
            raise names.no_such_file(name)
        self._file = HiddenFile(root, name, hidden)
        self._visible: str | None = None
        self._was_finished = False
        try:
            with disk_errors(f"resume {name} in {root}", name):
                self._open()
                self._visible = self._find_visible_name()
                size = os.fstat(self._file.fd).st_size
            if size < self.offset or (self._was_finished and size > self.offset):
                raise names.no_such_file(name)
            if size > self.offset:
                self._unpublish()
                with disk_errors(f"write to {self._file.path}"):
                    os.ftruncate(self._file.fd, self.offset)
        except BaseException:
            self.close()
            raise

    def _write(self, chunk: bytes) -> None:
        if chunk:
            self._unpublish()
        with disk_errors(f"write to {self._file.path}"):
            self._file.write(chunk)

    def _checkpoint(self) -> State:
        with disk_errors(f"write to {self._file.path}"):
            os.fsync(self._file.fd)
        return {**self._state, "offset": self.offset}

    def _finish(self, is_used: IsUsed | None) -> str:
        file = self._file
        with disk_errors(file.storing, file.name):
            name = self._find_visible_name()
        claim = file.claim(is_used if self._state["keep_name"] else None)
        if name is None or not claim.keep(name):
            with disk_errors(file.storing):
                file.sync()
            name = claim.first_free(file.name)
        with disk_errors(file.storing), contextlib.ExitStack() as undo:
            undo.callback(file.unpublish)
            # Before the hidden name goes: a power cut must leave one of the two.
            file.sync_folders(name)
            undo.pop_all()
        best_effort("remove the hidden file of an upload", self._file.remove)
        return name

    def _discard(self) -> None:
        cancel(self._file.root, self._state)

    def _close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        try:
            self._file.open(self._file.path)
        except FileNotFoundError:
            if self._state["keep_name"]:
                raise
            # No other file has this random name: if it is there, this one was finished.
            self._file.open(self._file.root / self._file.name)
            self._was_finished = True
        os.lseek(self._file.fd, self.offset, os.SEEK_SET)

    def _unpublish(self) -> None:
        """Remove the visible name, before the content changes."""
        if self._was_finished:
            raise names.no_such_file(self._file.name)
        visible, self._visible = self._visible, None
        if visible is not None:
            with disk_errors(f"write to {self._file.path}"):
                (self._file.root / visible).unlink(missing_ok=True)

    def _find_visible_name(self) -> str | None:
        """Return the name that an interrupted ``finish()`` gave to the file, if any. Raises
        ``FileNotFoundError`` if the file has no name at all."""
        file = self._file
        inode = os.fstat(file.fd)
        is_hidden = is_same_file(file.path, inode)
        if inode.st_nlink > is_hidden:
            if is_same_file(file.root / file.name, inode):
                return file.name
            # The name was taken, and the file got a number. (Or a backup has linked it elsewhere.)
            folder = (file.root / file.name).parent
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if (
                        entry.inode() == inode.st_ino
                        and path != file.path
                        and is_same_file(path, inode)
                    ):
                        return path.relative_to(file.root).as_posix()
        if not is_hidden:
            raise names.no_such_file(file.name)
        return None

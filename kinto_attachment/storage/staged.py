"""A file on its way in: what to store (``NewFile``), and the file that one request sends."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort

IsUsed = Callable[[str], bool]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class NewFile:
    """What to store, and how: the argument of ``stage()`` and ``create()``."""

    filename: str
    """What the file should be called. The stored name is made safe (ASCII letters, digits and
    ``_.-``), keeps its extension, and is cut to 255 bytes."""
    folder: str = ""
    """Relative path with ``/`` between its folders; trusted."""
    randomize: bool = True
    """Take only the extension from ``filename``; the rest of the stored name is a UUID4."""
    random_name: str = "{filename}"
    """What to call the file before its extension if ``randomize``: the UUID4 is at
    ``{filename}``, and stays where the name is too long."""
    private: bool = False
    """Store the file where only those can read it who may read its record; see ``Files``."""
    exact_name: bool = False
    """Store the file as ``folder/filename``, letter for letter, hidden names included, whatever
    ``randomize`` says: ``finish()`` raises ``FileExistsError`` if that is taken. ``filename`` is
    trusted then. Only for ``stage()``; ``create()`` raises ``TypeError``."""
    content_type: str = "application/octet-stream"
    """Media type, for storages that serve their files: ASCII, without control characters."""
    cache_control: str | None = None
    """How long the file may be cached, for storages that serve their files: a value of HTTP's
    ``Cache-Control`` (RFC 9111). ``None``: none is sent."""
    sha256: str | None = None
    """SHA-256 of the content, in hexadecimal, as the caller knows it; nobody compares. Storages
    with metadata keep it for ``stat()``. Only for ``stage()``."""
    size: int | None = None
    """Expected size in bytes, a hint. Without it, parts of a resumable file on S3 differ in size,
    which Cloudflare's R2 refuses above 5,000 MiB."""
    acl: str | None = None
    """Canned ACL of the object on S3, in place of the storage's own; ``""``: none is sent. Set by
    ``save(acl=...)`` of pyramid_storage. The local disk has no ACLs, and refuses one."""

    @property
    def is_random(self) -> bool:
        """Whether the name is one that no other file has."""
        return self.randomize and not self.exact_name

    def make_name(self) -> str:
        """Return a name to store the file as, with its folder; a new one each time if it is
        random. Raises ``ValueError`` if it leads out of the storage."""
        if self.exact_name:
            return names.join(self.folder, self.filename)
        if self.randomize:
            name = names.randomized(self.filename, self.random_name)
        else:
            name = names.safe(self.filename)
        return names.join(self.folder, name)


class StagedFile(abc.ABC):
    """A file that one request sends. Nobody can read it before ``finish()``.

    Belongs to one thread at a time. A backend implements ``_write``, ``_finish`` and
    ``_discard``; none is called on a file that was finished or discarded.
    """

    _closed = False

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. Memory is constant, whatever was written before.

        Raises ``StorageUnavailable``, and then the file is discarded. Raises ``ValueError`` on a
        file that was finished or discarded.
        """
        self._or_discard(self._write, chunk)

    def finish(self, is_used: IsUsed | None = None) -> str:
        """Make the file durable and visible; return its relative name.

        Once it returns, the file survives a power cut. Never overwrites: if the wanted name is
        taken, the file gets the next free one (``a.txt``, ``a-1.txt``, ``a-2.txt``...).
        ``is_used(name)`` says whether a name must not come back, though no file has it now. It is
        not asked about random names; about others it is asked when the file has the name already
        (its answer counts then), and may be asked before. Other processes may see the file for
        a moment under a name that it does not keep.
        Raises ``StorageUnavailable``, ``FileExistsError`` (only for an exact name), what
        ``is_used`` raises, and then the file is discarded and nothing is visible. Raises
        ``ValueError`` on a file that was finished or discarded.
        """
        name = self._or_discard(self._finish, is_used)
        self._closed = True
        return name

    def discard(self) -> None:
        """Remove an unfinished file, and release its memory and descriptors.

        Does nothing on a file that was finished or discarded already. Never raises: what cannot
        be removed now is logged, and left for ``kinto-attachment gc``.
        """
        if not self._closed:
            self._closed = True
            best_effort("discard an upload", self._discard)

    def _or_discard(self, step: Callable[..., _Result], *args: Any) -> _Result:
        if self._closed:
            raise ValueError("the staged file was finished or discarded")
        try:
            return step(*args)
        except BaseException:
            self.discard()
            raise

    @abc.abstractmethod
    def _write(self, chunk: bytes) -> None: ...

    @abc.abstractmethod
    def _finish(self, is_used: IsUsed | None) -> str: ...

    @abc.abstractmethod
    def _discard(self) -> None: ...

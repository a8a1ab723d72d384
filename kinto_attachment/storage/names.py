"""The names of stored files: made safe from a client's filename, numbered where one is taken.

A stored base name is plain ASCII, never empty, never hidden, never a path, keeps its extension,
and leaves room for a number within the 255 bytes that file systems allow.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable
from uuid import uuid4

from kinto_attachment.storage.cleanup import best_effort

MAX_BYTES = 255
MAX_EXTENSION_BYTES = 64

PRIVATE_PREFIX = "_private/"
"""How the names of private files begin. No id of Kinto's begins with an underscore."""

_ROOM_FOR_NUMBER = len("-9999999999")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")

# RFC 9562, section 5.4.
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_RANDOM = re.compile(rf"{UUID4}(\.[a-z0-9_-]+)?")
_PART = re.compile(rf"\.{UUID4}(-([0-9]+|name))?\.part")


def safe(filename: str) -> str:
    """Return the base name to store a client's ``filename`` as.

    Folders are dropped, accents are transliterated (NFKD), other characters are dropped. The
    result has at most 244 bytes, so that ``numbered`` never exceeds 255.
    """
    stem, extension = _split(filename)
    return stem[: MAX_BYTES - _ROOM_FOR_NUMBER - len(extension)] + extension


def randomized(filename: str, pattern: str = "{filename}") -> str:
    """Return ``pattern``, with a UUID4 at ``{filename}``, and the extension of ``filename`` in
    lower case; the UUID4 alone where that is too long."""
    random, extension = str(uuid4()), _split(filename)[1].lower()
    stem = _plain(pattern.replace("{filename}", random))
    is_short = len(stem) + len(extension) + _ROOM_FOR_NUMBER <= MAX_BYTES
    return f"{stem if is_short else random}{extension}"


def is_random(name: str) -> bool:
    """Whether ``name``, in any folder, is one that ``randomized`` gives."""
    return _RANDOM.fullmatch(name.rpartition("/")[2]) is not None


def numbered(name: str, number: int) -> str:
    """Return ``name`` with ``-number`` before its extension: ``x/a.txt``, 1: ``x/a-1.txt``."""
    stem, extension = posixpath.splitext(name)
    return f"{stem}-{number}{extension}"


def numbered_folder(segment: str, number: int) -> str:
    """Return the name ``segment`` of a folder with ``-number``, cut where it is too long."""
    return f"{segment[: MAX_BYTES - _ROOM_FOR_NUMBER]}-{number}"


def hidden(upload: str | None = None, piece: str = "") -> str:
    """Return a hidden name for a ``piece`` of an unfinished ``upload``; without an upload, a
    random name. It starts with ``hidden_prefix(upload)``."""
    return f"{hidden_prefix(upload or str(uuid4()))}{piece and '-'}{piece}.part"


def hidden_prefix(upload: str) -> str:
    """Return how all hidden names of ``upload`` start."""
    return f".{upload}"


def is_part(name: str) -> bool:
    """Whether ``name`` is one that ``hidden`` gives, to any piece of any upload."""
    return _PART.fullmatch(name.removeprefix(PRIVATE_PREFIX)) is not None


def is_private(name: str) -> bool:
    """Whether ``name`` is that of a file in the private store."""
    return name.startswith(PRIVATE_PREFIX)


class Claim:
    """How a file gets a name that no other file has or had."""

    def __init__(
        self,
        create: Callable[[str], bool],
        give_back: Callable[[str], object],
        exists: Callable[[str], bool],
        is_used: Callable[[str], bool] | None = None,
    ) -> None:
        """``create(name)`` makes the file, or returns ``False`` if the name is taken;
        ``give_back(name)`` undoes it. ``exists(name)`` looks for a file, ``is_used(name)`` for
        the memory of one."""
        self._create = create
        self._give_back = give_back
        self._exists = exists
        self._is_used = is_used or (lambda name: False)

    def first_free(self, name: str) -> str:
        """Create a file as ``name``, or else as ``numbered(name, 1)``...; return the name it got.

        Among n taken names it looks about 2 log2(n) times, not n times: it doubles the number
        until a name looks free, then halves the gap. Where files were deleted in between, the
        number is that of a free name, maybe not the lowest.
        """
        candidate, number = name, 0
        while not self._take(candidate):
            low, step = number, 1
            while self._looks_taken(numbered(name, low + step)):
                low, step = low + step, step * 2
            number = low + step
            while number - low > 1:
                middle = (low + number) // 2
                if self._looks_taken(numbered(name, middle)):
                    low = middle
                else:
                    number = middle
            candidate = numbered(name, number)
        return candidate

    def exactly(self, name: str) -> str:
        """Create a file as ``name``, and return that. Raises ``FileExistsError``."""
        if not self._take(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        return name

    def keep(self, name: str) -> bool:
        """Whether the file that was created as ``name`` may keep it; give it back otherwise, or
        if that cannot be known."""
        try:
            is_used = self._is_used(name)
        except BaseException:
            best_effort("give back a name", self._give_back, name)
            raise
        if is_used:
            self._give_back(name)
        return not is_used

    def _take(self, name: str) -> bool:
        # Asked before, it only saves the work: another process may take the name, have it
        # remembered and delete the file before this one creates it. The second answer counts.
        return not self._is_used(name) and self._create(name) and self.keep(name)

    def _looks_taken(self, name: str) -> bool:
        return self._is_used(name) or self._exists(name)


def join(folder: str, name: str) -> str:
    """Return ``folder/name``, without empty segments. Raises ``ValueError`` if it leads out of
    the storage."""
    joined = "/".join([*filter(None, folder.split("/")), name])
    if not is_valid(joined):
        raise ValueError(f"not a folder of the storage: {folder!r}")
    return joined


def is_valid(name: str, encoding_errors: str = "strict") -> bool:
    """Whether a stored file can have this name: a relative path without empty, ``.`` or ``..``
    segments or a NUL, that UTF-8 can encode.

    ``encoding_errors="surrogateescape"`` also accepts what ``os.fsdecode`` makes of other bytes.
    """
    try:
        name.encode("utf-8", encoding_errors)
    except UnicodeEncodeError:
        return False
    return "\0" not in name and not {"", ".", ".."}.intersection(name.split("/"))


def no_such_file(name: str) -> FileNotFoundError:
    """Return the error to raise if the storage has no file ``name``."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _split(filename: str) -> tuple[str, str]:
    """Return the safe stem, and the safe extension with its dot, or an empty one."""
    base = re.split(r"[/\\]", filename)[-1]
    # Split before characters are dropped: in "日本.txt" nothing would be left of the dot.
    stem, extension = posixpath.splitext(unicodedata.normalize("NFKD", base))
    stem, extension = _plain(stem) or "file", _plain(extension)
    return stem, f".{extension}"[:MAX_EXTENSION_BYTES] if extension else ""


def _plain(text: str) -> str:
    ascii_only = "_".join(text.split()).encode("ascii", "ignore").decode("ascii")
    return _UNSAFE.sub("", ascii_only).strip("._")

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

MAX_BYTES = 255
MAX_EXTENSION_BYTES = 64

_ROOM_FOR_NUMBER = len("-9999999999")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


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


def numbered(name: str, number: int) -> str:
    """Return ``name`` with ``-number`` before its extension: ``x/a.txt``, 1: ``x/a-1.txt``."""
    stem, extension = posixpath.splitext(name)
    return f"{stem}-{number}{extension}"


def hidden(upload: str | None = None, piece: str = "") -> str:
    """Return a hidden name for a ``piece`` of an unfinished ``upload``; without an upload, a
    random name. It starts with ``hidden_prefix(upload)``."""
    return f"{hidden_prefix(upload or str(uuid4()))}{piece and '-'}{piece}.part"


def hidden_prefix(upload: str) -> str:
    """Return how all hidden names of ``upload`` start."""
    return f".{upload}"


def claim(name: str, create: Callable[[str], bool], exists: Callable[[str], bool]) -> str:
    """Create a file as ``name``, or else as ``numbered(name, 1)``...; return the name it got.

    ``create(candidate)`` returns ``False`` if that name is taken; ``exists(candidate)`` only
    looks. Among n taken names it looks about 2 log2(n) times, not n times: it doubles the number
    until a name looks free, then halves the gap. Where files were deleted in between, the number
    is that of a free name, maybe not the lowest.
    """
    candidate, number = name, 0
    while not create(candidate):
        low, step = number, 1
        while exists(numbered(name, low + step)):
            low, step = low + step, step * 2
        number = low + step
        while number - low > 1:
            middle = (low + number) // 2
            if exists(numbered(name, middle)):
                low = middle
            else:
                number = middle
        candidate = numbered(name, number)
    return candidate


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

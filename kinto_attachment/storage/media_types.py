"""The media type of a file: from its extension, from what the client says, or guessed."""

from __future__ import annotations

import mimetypes as known_types
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from kinto_attachment.storage.names import safe

DEFAULT = "application/octet-stream"

# RFC 6838, section 4.2: the "restricted-name" on both sides of the slash.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


def is_media_type(text: str) -> bool:
    """Whether ``text`` is a media type without parameters, such as ``image/png``."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def media_type(filename: str, declared: str | None, by_extension: Mapping[str, str]) -> str:
    """Return the media type of a file: that of its extension in ``by_extension`` (``{".db":
    "..."}``), else the ``declared`` one if it is well-formed, else a guess from the filename."""
    extension = PurePosixPath(filename).suffix.lower()
    if extension in by_extension:
        return by_extension[extension]
    if declared and is_media_type(declared):
        return declared
    # Of a safe name: guess_type() takes one that starts with "data:" for a URL with a type.
    guessed, encoding = known_types.guess_type(safe(filename))
    # For "a.csv.gz", guess_type() returns the type of the content; the file is an archive.
    return (guessed if encoding is None else _ENCODINGS.get(encoding)) or DEFAULT


_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": DEFAULT,
}

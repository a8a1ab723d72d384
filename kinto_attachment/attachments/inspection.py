"""A look at the content of every file, whether it comes in one request or in several.

Whatever is to be refused or found out by content has its place here: text that is not UTF-8, a
virus. Refusals by name and size are those of ``UploadPolicy``.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

from kinto_attachment.errors import FileTooLarge


@dataclass(frozen=True)
class Metadata:
    """A file's metadata, without its location. ``size`` is in bytes."""

    filename: str
    hash: str
    mimetype: str
    size: int

    def attachment(self, location: str) -> dict[str, Any]:
        """Return the ``attachment`` attribute of the record."""
        return {
            "filename": self.filename,
            "hash": self.hash,
            "location": location,
            "mimetype": self.mimetype,
            "size": self.size,
        }


class Inspection:
    """Looks at the content of a file, once, from its first byte to its last."""

    def __init__(self, filename: str, mimetype: str, max_size: int | None) -> None:
        """``max_size`` is in bytes, ``None`` without a limit."""
        self._filename = filename
        self._mimetype = mimetype
        self._max_size = max_size
        self._digest = hashlib.sha256()
        self.size = 0
        """How many bytes it has seen."""

    def update(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises ``FileTooLarge`` as soon as the limit is passed."""
        self.size += len(chunk)
        if self._max_size is not None and self.size > self._max_size:
            raise FileTooLarge(limit=self._max_size)
        self._digest.update(chunk)

    def metadata(self) -> Metadata:
        """Return what is known of the file after its last byte."""
        return Metadata(self._filename, self._digest.hexdigest(), self._mimetype, self.size)

    def copy(self) -> Inspection:
        """Return another look at the content, which has seen the same bytes."""
        other = copy.copy(self)
        other._digest = self._digest.copy()
        return other

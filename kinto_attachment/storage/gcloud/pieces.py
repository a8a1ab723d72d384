"""The pieces of an unfinished file: hidden objects whose contents, in their order, are the file's.

Each checkpoint adds one, of any size. Before they are too many for a state, Google composes one
object of the last ones: no bytes move.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.gcloud.content import Buffer, checksum
from kinto_attachment.storage.gcloud.crc32c import concatenated
from kinto_attachment.storage.gcloud.hidden_objects import FIRST_PIECE, HiddenObjects
from kinto_attachment.storage.gcloud.new_object import NewObject
from kinto_attachment.storage.gcloud.session import GoogleError, Object, size_of
from kinto_attachment.storage.gcloud.upload import CHUNK_SIZE, Upload
from kinto_attachment.storage.resumable import State

# Google composes up to 32. A state may name three times as many.
_MAX_PIECES = 16


@dataclass(frozen=True)
class Piece:
    """Bytes that are stored as the hidden object ``number``, in ``generation``."""

    number: int
    generation: str
    size: int
    crc32c: int

    @classmethod
    def of(cls, number: int, stored: Object) -> Piece:
        """Return the piece of Google's description."""
        crc32c = int.from_bytes(base64.b64decode(stored["crc32c"]), "big")
        return cls(number, stored["generation"], size_of(stored), crc32c)


class NewPiece:
    """A piece that is written, in memory or on its way. Its methods raise ``GoogleError``.

    Sent in one request if it fits into a buffer, else through an upload session. Google forgets a
    session that is left alone within a week.
    """

    def __init__(self, hidden: HiddenObjects) -> None:
        self._number = _new_number()
        self._name = hidden.name(self._number)
        self._object = hidden.new_object()
        self._buffer = Buffer(CHUNK_SIZE)
        self._upload: Upload | None = None
        self._size = 0
        self._crc32c = 0

    def write(self, chunk: memoryview) -> None:
        """Append ``chunk``."""
        self._crc32c = checksum(self._crc32c, chunk)
        self._size += len(chunk)
        while chunk:
            if len(self._buffer) == CHUNK_SIZE:
                if self._upload is None:
                    self._upload = self._object.start_upload(self._name)
                self._buffer = self._upload.send(self._buffer)
            chunk = chunk[self._buffer.fill(chunk) :]

    def finish(self) -> Piece:
        """Store the piece."""
        with contextlib.closing(self):
            if self._upload is None:
                stored = self._object.insert(self._name, self._buffer, self._crc32c)
            else:
                stored = self._object.finish_upload(
                    self._upload, self._buffer, self._crc32c, self._size
                )
            return Piece.of(self._number, _own(stored))

    def abort(self) -> None:
        """Have Google drop what it has."""
        if self._upload is not None:
            self._upload.abort()

    def close(self) -> None:
        """Release memory and threads."""
        if self._upload is not None:
            self._upload.close()
        self._buffer.close()


class Pieces:
    """Those of a file that was resumed from ``state``. Its methods raise ``GoogleError``.

    An object that was composed with others stays while one of the three states needs it that can
    be resumed.
    """

    def __init__(self, hidden: HiddenObjects, state: State) -> None:
        self._hidden = hidden
        self._resumed: list[int] = state["pieces"]
        self._last = self._resumed
        self._pieces: list[Piece] = []
        self.superseded: list[int] = list(state["superseded"])
        """Objects that were composed with others."""

    @property
    def numbers(self) -> list[int]:
        """The numbers of the pieces, in their order."""
        return [piece.number for piece in self._pieces]

    @property
    def size(self) -> int:
        """How many bytes they have together."""
        return sum(piece.size for piece in self._pieces)

    @property
    def crc32c(self) -> int:
        """The CRC32C of all their bytes."""
        return _crc32c(self._pieces)

    def find(self, found: Mapping[int, Object]) -> None:
        """Take those of the resumed state that are among the objects ``found``."""
        known = [number for number in self._resumed if number in found]
        self._pieces = [Piece.of(number, found[number]) for number in known]

    def append(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.append(piece)

    def compose(self, new_object: NewObject, name: str, start: int = 0) -> Object | None:
        """Create an object ``name`` of the pieces from ``start`` on; return what
        ``NewObject.compose()`` does."""
        pieces = self._pieces[start:]
        return new_object.compose(
            name,
            [(self._hidden.name(piece.number), piece.generation) for piece in pieces],
            _crc32c(pieces),
            sum(piece.size for piece in pieces),
        )

    def fold(self) -> None:
        """If there are many pieces, compose the last two, and those before them that have no more
        bytes than what follows.

        This limits how often a byte is composed. 5 TiB in 81,920 checkpoints of 64 MiB take 24,959
        composes, whose objects have 5.7 times the bytes of the file. Where a bucket retains what
        is deleted (soft delete, a retention policy), these are paid for as long.
        """
        if len(self._pieces) < _MAX_PIECES:
            return
        start = len(self._pieces) - 2
        size = self._pieces[start].size + self._pieces[start + 1].size
        while start and self._pieces[start - 1].size <= size:
            start -= 1
            size += self._pieces[start].size
        number = _new_number()
        composed = self.compose(self._hidden.new_object(), self._hidden.name(number), start)
        self.superseded += self.numbers[start:]
        self._pieces[start:] = [Piece.of(number, _own(composed))]

    def remove_superseded(self) -> None:
        """Delete what no state needs that can be resumed, once the pieces make a new one.

        What cannot be deleted (a bucket may retain it) is left for the end, which removes what
        Google lists.
        """
        needed = {*self._resumed, *self._last}
        for number in self.superseded:
            if number not in needed:
                best_effort("remove a composed object", self._hidden.delete, number)
        self.superseded = [number for number in self.superseded if number in needed]
        self._last = self.numbers


def _new_number() -> int:
    return FIRST_PIECE + secrets.randbelow(9 * FIRST_PIECE)


def _own(stored: Object | None) -> Object:
    if stored is None:
        raise GoogleError("a random name is taken")
    return stored


def _crc32c(pieces: list[Piece]) -> int:
    return reduce(lambda crc32c, piece: concatenated(crc32c, piece.crc32c, piece.size), pieces, 0)

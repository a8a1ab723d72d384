"""The hidden objects of an unfinished resumable file on Google Cloud Storage.

All of them can be listed: their names start with the file's id. None is ever overwritten: a state
names a piece, not its generation, and Google refuses a second write of a name within a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from kinto_attachment.storage import names
from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.content import Buffer, checksum
from kinto_attachment.storage.gcloud.new_object import NewObject
from kinto_attachment.storage.gcloud.session import Object
from kinto_attachment.storage.resumable import State

MARKER = 0
"""The number of the object that is there until the file is finished."""
FIRST_PIECE = 10**9
"""Pieces of the file have a number from here on: see ``pieces``. Below are notes: names that
``finish()`` was about to store the file as."""
# So many notes are known to used_by(). One is written where a name looks free, and the next one
# only if it was taken.
_NOTES = 16


class HiddenObjects:
    """Those of the file of ``state``, by their numbers. Its methods raise ``GoogleError``.

    If the file has an ACL, theirs is ``projectPrivate``, whatever the bucket's default is.
    Otherwise the bucket's policy decides who reads them: in a public bucket everybody who knows
    their names, which are as random as those of files.
    """

    def __init__(self, bucket: Bucket, state: State) -> None:
        self._bucket = bucket
        self._id: str = state["id"]
        self._attributes = {"contentType": "application/octet-stream"}
        if "predefinedAcl" in state["attributes"]:
            self._attributes["predefinedAcl"] = "projectPrivate"
        self._last_note = 0

    def name(self, number: int) -> str:
        """Return the name of an object."""
        return names.hidden(self._id, str(number))

    def known_names(self, pieces: Iterable[int]) -> frozenset[str]:
        """Return the names of ``pieces``, of the marker and of the notes."""
        return frozenset(map(self.name, [MARKER, *range(1, _NOTES + 1), *pieces]))

    def new_object(self) -> NewObject:
        """Return what creates a hidden object."""
        return NewObject(self._bucket, self._attributes, self._id)

    def mark_unfinished(self) -> None:
        """Create the marker."""
        self._insert(MARKER, b"")

    def find(self) -> dict[int, Object]:
        """Describe all objects."""
        prefix = f"{names.hidden_prefix(self._id)}-"
        listed = {
            each["name"].removeprefix(prefix).removesuffix(".part"): each
            for each in self._bucket.list(prefix)
        }
        found = {int(number): each for number, each in listed.items() if number.isdecimal()}
        self._last_note = max(_notes(found), default=0)
        return found

    def write_note(self, name: str) -> None:
        """Note the name that the file is about to get. Call ``find()`` before."""
        self._last_note += 1
        self._insert(self._last_note, name.encode())

    def read_notes(self, found: Mapping[int, Object]) -> Iterator[str]:
        """Yield the names in the notes of ``found``, the last one first."""
        for number in sorted(_notes(found), reverse=True):
            yield b"".join(self._bucket.read(self.name(number))).decode()

    def delete(self, number: int) -> None:
        """Delete an object."""
        self._bucket.delete(self.name(number))

    def remove(self) -> None:
        """Remove everything, also what a killed process has created after ``state``."""
        found = self.find()
        with contextlib.ExitStack() as steps:  # each of them, even if others fail
            for number in found:
                if number >= FIRST_PIECE:
                    steps.callback(self.delete, number)
        # The notes are last: while the others are left the file can be resumed, and only these say
        # that it is finished.
        for number in (MARKER, *_notes(found)):
            self.delete(number)

    def _insert(self, number: int, content: bytes) -> None:
        buffer = Buffer(max(len(content), 1))
        with contextlib.closing(buffer):
            buffer.fill(memoryview(content))
            crc32c = checksum(0, memoryview(content))
            self.new_object().insert(self.name(number), buffer, crc32c)


def _notes(numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if MARKER < number < FIRST_PIECE]

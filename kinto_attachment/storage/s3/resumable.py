"""A file on S3 that several requests send: a multipart upload that stays from one to the next.

Where the parts begin and end follows from their numbers alone. So whoever sends a part again, from
an older state, puts it in the place of the first one. What is left over at a checkpoint, less than
a part, is kept as a hidden object, the *tail*, until the next process reads it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from kinto_attachment.storage import names
from kinto_attachment.storage.resumable import ResumableFile, State, attempt
from kinto_attachment.storage.s3.bucket import Bucket, error_code
from kinto_attachment.storage.s3.leftovers import Leftovers
from kinto_attachment.storage.s3.object import NewObject
from kinto_attachment.storage.s3.requests import Part, PartsUpload, PutUpload, Whole
from kinto_attachment.storage.s3.staged import MAX_PART_SIZE, MIN_PART_SIZE, part_size
from kinto_attachment.storage.s3.tails import Tails

_STORAGE = "s3"
# Where the length is unknown, parts double their size after so many. Makes 448 GiB.
_PARTS_OF_A_SIZE = 1000


class PartSizes:
    """How a file is cut into parts: all of ``fixed`` bytes, or growing ones."""

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed

    def size(self, number: int) -> int:
        """The size of the part ``number`` (from 1) in bytes; the last one may be smaller."""
        if self._fixed is not None:
            return self._fixed
        return min(MIN_PART_SIZE << (number - 1) // _PARTS_OF_A_SIZE, MAX_PART_SIZE)

    def cut(self, length: int) -> tuple[int, int]:
        """How many whole parts ``length`` bytes make, and how many bytes are left over."""
        count = 0
        while True:
            size = self.size(count + 1)
            more = min(length // size, _PARTS_OF_A_SIZE)
            count += more
            length -= more * size
            if more < _PARTS_OF_A_SIZE:
                return count, length


def create(
    bucket: Bucket,
    name: str,
    *,
    keep_name: bool,
    attributes: Mapping[str, Any],
    size: int | None,
) -> State:
    """Return the state of a new file; ``attributes`` are the object's, as boto3 calls them."""
    state: State = {
        "storage": _STORAGE,
        "id": str(uuid4()),
        "name": name,
        "keep_name": keep_name,
        "attributes": dict(attributes),
        "part_size": None if size is None else part_size(size),
        "note": True,
        "upload_id": None,
        "offset": 0,
        "tails": [],
        "etags": {},
    }
    leftovers = Leftovers(bucket, state)
    with bucket.errors(f"write to {name!r}"), contextlib.ExitStack() as undo:
        undo.callback(attempt, "discard an upload", leftovers.remove)
        # Not when the first part goes up: were the process killed then, nobody would know of it.
        if size is not None and size > part_size(size):
            new = NewObject(bucket, attributes, state["id"])
            state["upload_id"] = new.parts(leftovers.upload_key).id
            state["note"] = keep_name
        # Something must be there as long as the file is unfinished.
        if state["note"]:
            leftovers.write_note("")
        undo.pop_all()
    return state


def cancel(bucket: Bucket, state: State) -> None:
    """Remove what there is of an unfinished file. Raises boto3's errors."""
    if state["storage"] == _STORAGE:
        Leftovers(bucket, state).remove()


def needed(bucket: Bucket, state: State) -> frozenset[str]:
    """What a state needs, or may come to need."""
    if state["storage"] != _STORAGE:
        return frozenset()
    leftovers = Leftovers(bucket, state)
    found = {leftovers.hidden, leftovers.note, *map(leftovers.tail, state["tails"])}
    return frozenset(filter(None, [*found, state["upload_id"]]))


class S3ResumableFile(ResumableFile):
    """Holds at most two parts in memory, that fill or are on their way.

    As long as there is no whole part, there is no multipart upload, unless the announced size
    needs one. A name to keep is found as ``S3StagedFile`` does it: the parts make a hidden object,
    that is then copied. Before it is, the name is noted down in another one, so that whoever
    repeats a ``finish()`` that was killed finds the file that is there already. After it, the note
    goes last.
    """

    def __init__(self, bucket: Bucket, state: State) -> None:
        super().__init__(state["offset"])
        self._name: str = state["name"]
        if state["storage"] != _STORAGE:
            raise names.no_such_file(self._name)
        self._bucket = bucket
        self._state = state
        self._leftovers = Leftovers(bucket, state)
        self._new = NewObject(bucket, state["attributes"], state["id"])
        self._sizes = PartSizes(state["part_size"])
        count, tail = self._sizes.cut(self.offset)
        self._buffer = Part(self._sizes.size(count + 1))
        self._parts: PartsUpload | None = None
        if state["upload_id"] is not None:
            self._parts = PartsUpload(
                bucket,
                self._leftovers.upload_key,
                state["upload_id"],
                count=count,
                size=self.offset - tail,
                etags={int(number): etag for number, etag in state["etags"].items()},
            )
        self._tails = Tails(bucket, self._leftovers, state)
        # What a finish() that was killed has made.
        self._hidden: Whole | None = None
        self._visible: str | None = None
        try:
            with self._errors("resume"):
                if not self._take_up(count + 1, tail):
                    self._find_made()
        except BaseException:
            self.close()
            raise

    def _write(self, chunk: bytes) -> None:
        if chunk and (self._hidden or self._visible):
            raise names.no_such_file(self._name)
        rest = memoryview(chunk)
        with self._errors("write to"):
            while rest:
                # Not before there is more: the last part of a large file is not an empty one.
                if len(self._buffer) == self._buffer.capacity:
                    self._send_part()
                rest = rest[self._buffer.fill(rest) :]

    def _checkpoint(self) -> State:
        if not (self._hidden or self._visible):
            with self._errors("write to"):
                if len(self._buffer) == self._buffer.capacity:
                    self._send_part()
                if self._parts is not None:
                    self._parts.wait()
                self._tails.keep(self._number, self._buffer)
        return self._now()

    def _finish(self) -> str:
        with self._errors("store"):
            try:
                name = self._store()
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise
                # Somebody has completed it, or it was aborted.
                self._find_made()
                name = self._store()
        attempt("remove what is left of an upload", Leftovers(self._bucket, self._now()).remove)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # both, whichever fails
            steps.callback(self._new.remove_left_behind)
            steps.callback(Leftovers(self._bucket, self._now()).remove)

    def _close(self) -> None:
        self._buffer.close()
        if self._parts is not None:
            self._parts.close()

    @property
    def _number(self) -> int:
        """That of the part that fills."""
        return 1 if self._parts is None else self._parts.count + 1

    def _now(self) -> State:
        state = {**self._state, "offset": self.offset, "tails": self._tails.numbers}
        if self._parts is not None:
            state["upload_id"] = self._parts.id
            # A number is no key in JSON.
            state["etags"] = {str(part): etag for part, etag in self._parts.sent_again.items()}
        return state

    def _take_up(self, number: int, tail: int) -> bool:
        """Read the tail; whether everything is there."""
        if self._parts is not None:
            if not self._parts.look_up():
                return False
        elif not tail:
            return self._leftovers.read_note() is not None
        return self._tails.read(number, tail, self._buffer)

    def _find_made(self) -> None:
        """Find what was made of the same bytes."""
        noted = self._leftovers.read_note() if self._state["keep_name"] else self._name
        hidden = self._leftovers.hidden
        if noted and self._new.size(noted) == self.offset:
            self._visible = noted
        elif self._state["keep_name"] and self._new.size(hidden) == self.offset:
            self._hidden = Whole(hidden, self.offset)
        else:
            raise names.no_such_file(self._name)

    def _send_part(self) -> None:
        """Let the buffer go up, and go on with an empty one."""
        if self._parts is None:
            self._parts = self._new.parts(self._leftovers.upload_key)
        self._buffer = self._parts.send(self._buffer, self._sizes.size(self._number + 1))

    def _store(self) -> str:
        if self._state["keep_name"]:
            return self._visible or self._find_noted() or self._claim_name()
        if self._visible is None:
            self._complete(self._all_parts() or self._new.put(self._name, self._buffer))
        return self._name

    def _find_noted(self) -> str | None:
        """The name under which a killed process has stored the file, if it has."""
        noted = self._leftovers.read_note()
        size = self._new.size(noted) if noted else None
        if noted is None or size not in (None, self.offset):
            raise names.no_such_file(self._name)
        return None if size is None else noted

    def _claim_name(self) -> str:
        source: Part | Whole = self._buffer
        if self._hidden is not None:
            source = self._hidden
        elif parts := self._all_parts():
            self._complete(parts)
            source = Whole(parts.key, self.offset)
        return names.claim(self._name, lambda key: self._take(key, source), self._new.taken)

    def _take(self, key: str, source: Part | Whole) -> bool:
        self._leftovers.write_note(key)
        return self._new.take(key, source)

    def _all_parts(self) -> PartsUpload | None:
        """The upload with all its parts; ``None`` if the buffer has the whole file."""
        parts = self._parts
        if parts is None or not parts.count:
            return None
        parts.wait()
        if not parts.recall(self._sizes.size):
            raise names.no_such_file(self._name)
        if len(self._buffer):
            self._send_part()
        return parts

    def _complete(self, upload: PartsUpload | PutUpload) -> None:
        """Make an object whose name is nobody else's."""
        if not self._new.complete_if_free(upload) and self._new.size(upload.key) != self.offset:
            raise names.no_such_file(self._name)

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        with self._bucket.errors(f"{doing} {self._name!r}"):
            try:
                yield
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise
                raise names.no_such_file(self._name) from error

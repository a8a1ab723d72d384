"""A file that several requests send to S3: a multipart upload that stays between requests.

Where a part begins and ends follows from its number alone: a part that is sent again, from an
older state, replaces the first one. A checkpoint saves what is not enough for a part as an
*incomplete part*, a hidden object that the next request reads back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from uuid import uuid4

from botocore.exceptions import ClientError

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.s3.bucket import Bucket, error_code
from kinto_attachment.storage.s3.hidden_objects import HiddenObjects
from kinto_attachment.storage.s3.incomplete_parts import IncompleteParts
from kinto_attachment.storage.s3.new_object import NewObject
from kinto_attachment.storage.s3.staged import MAX_PART_SIZE, MIN_PART_SIZE, part_size
from kinto_attachment.storage.s3.upload import MultipartUpload, PartBuffer, PutObject, StoredObject
from kinto_attachment.storage.staged import IsUsed, NewFile

_STORAGE = "s3"
# If the size is unknown, parts double theirs after so many. Makes 448 GiB.
_PARTS_OF_A_SIZE = 1000


class PartSizes:
    """The sizes of a file's parts: ``fixed`` bytes each, or growing if that is ``None``."""

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed

    def size(self, number: int) -> int:
        """Return the size in bytes of the part ``number``, from 1; the last may be smaller."""
        if self._fixed is not None:
            return self._fixed
        return min(MIN_PART_SIZE << (number - 1) // _PARTS_OF_A_SIZE, MAX_PART_SIZE)

    def split(self, length: int) -> tuple[int, int]:
        """Return how many whole parts ``length`` bytes make, and how many bytes are left over."""
        count = 0
        while True:
            size = self.size(count + 1)
            more = min(length // size, _PARTS_OF_A_SIZE)
            count += more
            length -= more * size
            if more < _PARTS_OF_A_SIZE:
                return count, length


def create(bucket: Bucket, new: NewFile, attributes: Mapping[str, str]) -> State:
    """Return the first state of a file; ``attributes`` are the object's, in boto3's names."""
    if new.exact_name:
        raise TypeError("only a staged file has an exact name")
    name, size = new.make_name(), new.size
    state: State = {
        "storage": _STORAGE,
        "id": str(uuid4()),
        "name": name,
        "keep_name": not new.is_random,
        "attributes": dict(attributes),
        "part_size": None if size is None else part_size(size),
        "note": True,
        "upload_id": None,
        "offset": 0,
        # The numbers of incomplete parts, and the ETags of replaced ones.
        "tails": [],
        "etags": {},
    }
    hidden = HiddenObjects(bucket, state)
    with bucket.errors(f"write to {name!r}"), contextlib.ExitStack() as undo:
        undo.callback(best_effort, "discard an upload", hidden.remove)
        # Not with the first part: no state would name the upload of a process killed then.
        if size is not None and size > part_size(size):
            new_object = NewObject(bucket, attributes, state["id"])
            state["upload_id"] = new_object.start_multipart(hidden.multipart_key).id
            state["note"] = state["keep_name"]
        # Until it is finished, a file has a multipart upload or a note.
        if state["note"]:
            hidden.write_note("")
        undo.pop_all()
    return state


def cancel(bucket: Bucket, state: State) -> None:
    """Remove an unfinished file. Raises boto3's errors."""
    if state["storage"] == _STORAGE:
        HiddenObjects(bucket, state).remove()


def used_by(bucket: Bucket, state: State) -> frozenset[str]:
    """Return the keys and upload IDs that the file uses, or will use."""
    if state["storage"] != _STORAGE:
        return frozenset()
    hidden = HiddenObjects(bucket, state)
    keys = {hidden.assembled, hidden.note, *map(hidden.incomplete_part, state["tails"])}
    if not state["keep_name"]:
        keys.add(state["name"])
    return frozenset(filter(None, [*keys, state["upload_id"]]))


class S3ResumableFile(ResumableFile):
    """Holds at most two parts in memory, which are filled or sent.

    A multipart upload starts with the first whole part, or before if the announced size needs
    one. A name that is not random is claimed as in ``S3StagedFile``: the parts make a hidden
    object, which is copied. The note holds that name before the copy starts, so that a repeated
    ``finish()`` finds the file of a killed one. The note goes last.
    """

    def __init__(self, bucket: Bucket, state: State) -> None:
        super().__init__(state["offset"])
        self._name: str = state["name"]
        if state["storage"] != _STORAGE:
            raise names.no_such_file(self._name)
        self._bucket = bucket
        self._state = state
        self._hidden = HiddenObjects(bucket, state)
        self._object = NewObject(bucket, state["attributes"], state["id"])
        self._sizes = PartSizes(state["part_size"])
        count, rest = self._sizes.split(self.offset)
        self._buffer = PartBuffer(self._sizes.size(count + 1))
        self._upload: MultipartUpload | None = None
        if state["upload_id"] is not None:
            self._upload = MultipartUpload(
                bucket,
                self._hidden.multipart_key,
                state["upload_id"],
                count=count,
                size=self.offset - rest,
                etags={int(number): etag for number, etag in state["etags"].items()},
            )
        self._incomplete_parts = IncompleteParts(bucket, self._hidden, state)
        # What an interrupted finish() has stored: all the bytes, hidden or under a visible name.
        self._assembled: StoredObject | None = None
        self._visible: str | None = None
        try:
            with self._errors("resume"):
                if not self._read_back(count + 1, rest):
                    self._find_stored()
        except BaseException:
            self.close()
            raise

    def _write(self, chunk: bytes) -> None:
        if chunk and (self._assembled or self._visible):
            raise names.no_such_file(self._name)
        rest = memoryview(chunk)
        with self._errors("write to"):
            while rest:
                # Only once there is more: the last part of a large file must not be empty.
                if len(self._buffer) == self._buffer.capacity:
                    self._send_part()
                rest = rest[self._buffer.fill(rest) :]

    def _checkpoint(self) -> State:
        if not (self._assembled or self._visible):
            with self._errors("write to"):
                if len(self._buffer) == self._buffer.capacity:
                    self._send_part()
                if self._upload is not None:
                    self._upload.wait()
                self._incomplete_parts.save(self._part_number, self._buffer)
        return self._current_state()

    def _finish(self, is_used: IsUsed | None) -> str:
        with self._errors("store"):
            try:
                name = self._store(is_used)
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise
                # Another process has completed or aborted it.
                self._find_stored()
                name = self._store(is_used)
        best_effort("remove the hidden objects of an upload", self._remove_hidden)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # both, whichever fails
            steps.callback(self._object.remove_unconfirmed)
            steps.callback(self._remove_hidden)

    def _close(self) -> None:
        self._buffer.close()
        if self._upload is not None:
            self._upload.close()

    @property
    def _part_number(self) -> int:
        """The number of the part that is in the buffer."""
        return 1 if self._upload is None else self._upload.count + 1

    def _current_state(self) -> State:
        numbers = self._incomplete_parts.numbers
        state = {**self._state, "offset": self.offset, "tails": numbers}
        if self._upload is not None:
            state["upload_id"] = self._upload.id
            # JSON's keys are strings.
            state["etags"] = {str(part): tag for part, tag in self._upload.replaced_etags.items()}
        return state

    def _remove_hidden(self) -> None:
        HiddenObjects(self._bucket, self._current_state()).remove()

    def _read_back(self, number: int, length: int) -> bool:
        """Fill the buffer with the incomplete part. Return ``False`` if a piece of the file is
        gone."""
        if self._upload is not None:
            if not self._upload.find_later_parts():
                return False
        elif not length:
            return self._hidden.read_note() is not None
        return self._incomplete_parts.read(number, length, self._buffer)

    def _find_stored(self) -> None:
        """Find the object that an interrupted ``finish()`` has made of the same bytes."""
        keep_name, assembled = self._state["keep_name"], self._hidden.assembled
        if keep_name and self._object.own_size(assembled) == self.offset:
            self._assembled = StoredObject(assembled, self.offset)
            return
        # That was removed, or never made: so this name is not given back any more.
        noted = self._hidden.read_note() if keep_name else self._name
        if not noted or self._object.own_size(noted) != self.offset:
            raise names.no_such_file(self._name)
        self._visible = noted

    def _send_part(self) -> None:
        """Send the buffer, and replace it by an empty one."""
        if self._upload is None:
            self._upload = self._object.start_multipart(self._hidden.multipart_key)
        self._buffer = self._upload.send(self._buffer, self._sizes.size(self._part_number + 1))

    def _store(self, is_used: IsUsed | None) -> str:
        if self._state["keep_name"]:
            return self._visible or self._claim_name(is_used)
        if self._visible is None:
            self._complete(self._send_rest() or self._object.put(self._name, self._buffer))
        return self._name

    def _find_noted(self) -> str | None:
        """Return the name under which an interrupted ``finish()`` has stored the file, if any."""
        noted = self._hidden.read_note()
        size = self._object.own_size(noted) if noted else None
        if noted is None or size not in (None, self.offset):
            raise names.no_such_file(self._name)
        return None if size is None else noted

    def _claim_name(self, is_used: IsUsed | None) -> str:
        claim = names.Claim(self._create, self._give_back, self._object.exists, is_used)
        noted = self._find_noted()
        if noted is not None and claim.keep(noted):
            return noted
        if self._assembled is None and (upload := self._send_rest()):
            self._complete(upload)
            self._assembled = StoredObject(upload.key, self.offset)
        return claim.first_free(self._name)

    def _create(self, key: str) -> bool:
        self._hidden.write_note(key)
        return self._object.create_if_absent(key, self._assembled or self._buffer)

    def _give_back(self, key: str) -> None:
        # Without the note, another process has finished the file, and may have returned this very
        # name: that is why it is used.
        if self._hidden.read_note() != key:
            raise names.no_such_file(self._name)
        self._object.delete(key)

    def _send_rest(self) -> MultipartUpload | None:
        """Send what is left; return the upload, to be completed. ``None`` if the whole file is in
        the buffer."""
        upload = self._upload
        if upload is None or not upload.count:
            return None
        upload.wait()
        if not upload.find_etags(self._sizes.size):
            raise names.no_such_file(self._name)
        if len(self._buffer):
            self._send_part()
        return upload

    def _complete(self, upload: MultipartUpload | PutObject) -> None:
        """Create an object whose key is only this file's."""
        created = self._object.complete_if_absent(upload)
        if not created and self._object.own_size(upload.key) != self.offset:
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

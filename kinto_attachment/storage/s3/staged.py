"""A file on its way to S3: one request if it is small, else parts while it is still arriving.

One part is held in memory, and two by one upload at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.base import StagedFile, logger
from kinto_attachment.storage.s3.bucket import Bucket
from kinto_attachment.storage.s3.object import NewObject
from kinto_attachment.storage.s3.requests import MAX_PARTS, Part, PartsUpload, Whole

# What S3 wants a part to have at least, but for the last one.
MIN_PART_SIZE = 5 * 1024 * 1024
# Whatever size is announced: two parts of each upload are in memory. Makes 625 GiB.
MAX_PART_SIZE = 64 * 1024 * 1024


class S3StagedFile(StagedFile):
    """Keeps the first part in memory; a file that has more goes up as a multipart upload.

    With a random name, that upload is the file. A name to keep may be taken by the time that all
    has arrived, and the parts of an upload cannot be given another one: they go to a hidden
    object, which ``finish()`` copies, inside S3, to the name that it gets.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        *,
        keep_name: bool,
        attributes: Mapping[str, Any],
        size: int | None,
    ) -> None:
        """``attributes`` are the object's, as boto3 calls them; without ``size``, the hint, a
        file can have 48 GiB."""
        self._bucket = bucket
        self._key = key
        self._keep_name = keep_name
        self._new = NewObject(bucket, attributes, uuid4().hex)
        self._part_size = part_size(size)
        self._buffer = Part(self._part_size)
        self._parts: PartsUpload | None = None

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with self._bucket.errors(f"write to {self._key!r}"):
            while rest:
                # Not before there is more: the last part of a large file is not an empty one.
                if len(self._buffer) == self._part_size:
                    self._send_part()
                rest = rest[self._buffer.fill(rest) :]

    def _finish(self) -> str:
        with self._bucket.errors(f"store {self._key!r}"):
            name = self._store()
        if self._keep_name and self._parts is not None:
            self._remove_copied(self._parts.key)
        self._release()
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # the last one first, each whatever the others do
            steps.callback(self._release)
            steps.callback(self._new.remove_left_behind)
            if self._parts is not None:
                steps.callback(self._parts.abort)

    def _release(self) -> None:
        # Not left to the garbage collector: a traceback may hold on to us for a while.
        self._buffer.close()

    def _send_part(self) -> None:
        """Let the buffer go up, and go on with an empty one."""
        if self._parts is None:
            self._parts = self._new.own_parts(names.part() if self._keep_name else self._key)
        self._buffer = self._parts.send(self._buffer)

    def _store(self) -> str:
        source: Part | Whole = self._buffer
        if self._parts is not None:
            self._send_part()
            self._new.complete(self._parts)
            source = Whole(self._parts.key, self._parts.size)
        elif not self._keep_name:
            self._new.complete(self._new.put(self._key, self._buffer))
        if not self._keep_name:
            return self._key
        return names.claim(self._key, lambda key: self._new.take(key, source), self._new.taken)

    def _remove_copied(self, key: str) -> None:
        try:
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)
        except Exception:
            # The file is stored: this must not fail it.
            logger.warning("The leftover %s could not be deleted", key, exc_info=True)


def part_size(size: int | None) -> int:
    """How large the parts of a file of ``size`` bytes are, so that 10,000 are enough."""
    return min(max(MIN_PART_SIZE, -(-(size or 0) // MAX_PARTS)), MAX_PART_SIZE)

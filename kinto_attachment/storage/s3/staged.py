"""A file that one request sends to S3: PutObject if it is small, else a multipart upload.

Holds one part in memory; one upload at a time holds two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.s3.bucket import Bucket
from kinto_attachment.storage.s3.new_object import NewObject
from kinto_attachment.storage.s3.upload import MAX_PARTS, MultipartUpload, PartBuffer, StoredObject
from kinto_attachment.storage.staged import IsUsed, NewFile, StagedFile

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: but for the last part.
MIN_PART_SIZE = 5 * 1024 * 1024
# Whatever size is announced: an upload has two parts in memory. Makes 625 GiB.
MAX_PART_SIZE = 64 * 1024 * 1024


class S3StagedFile(StagedFile):
    """Sends the first part when there is more than one; the rest while it arrives.

    With a random name, the multipart upload is the file. Another name may be taken when all has
    arrived, and a multipart upload cannot be renamed: it makes a hidden object, which
    ``finish()`` copies, inside S3, to the name that the file gets.
    """

    def __init__(self, bucket: Bucket, new: NewFile, attributes: Mapping[str, str]) -> None:
        """``attributes`` are those of the object, in boto3's names. Without ``new.size``, a file
        can have 48 GiB."""
        self._bucket = bucket
        self._new = new
        self._key = new.make_name()
        self._keep_name = not new.is_random
        self._object = NewObject(bucket, attributes, uuid4().hex, new.sha256)
        self._part_size = part_size(new.size)
        self._buffer = PartBuffer(self._part_size)
        self._upload: MultipartUpload | None = None

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with self._bucket.errors(f"write to {self._key!r}"):
            while rest:
                # Only once there is more: the last part of a large file must not be empty.
                if len(self._buffer) == self._part_size:
                    self._send_part()
                rest = rest[self._buffer.fill(rest) :]

    def _finish(self, is_used: IsUsed | None) -> str:
        with self._bucket.errors(f"store {self._key!r}"):
            name = self._store(is_used)
        if self._keep_name and self._upload is not None:
            copied = self._upload.key
            best_effort(f"remove the copied object {copied!r}", self._bucket.delete, copied)
        # Not left to the garbage collector: a traceback may refer to this file for a while.
        self._buffer.close()
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # the last one first, each even if others fail
            steps.callback(self._buffer.close)
            steps.callback(self._object.remove_unconfirmed)
            if self._upload is not None:
                steps.callback(self._upload.abort)

    def _send_part(self) -> None:
        """Send the buffer, and replace it by an empty one."""
        if self._upload is None:
            key = names.hidden() if self._keep_name else self._key
            self._upload = self._object.start_multipart_to_own_key(key)
        self._buffer = self._upload.send(self._buffer)

    def _store(self, is_used: IsUsed | None) -> str:
        source: PartBuffer | StoredObject = self._buffer
        if self._upload is not None:
            self._send_part()
            self._object.complete(self._upload)
            source = StoredObject(self._upload.key, self._upload.size)
        elif not self._keep_name:
            self._object.complete(self._object.put(self._key, self._buffer))
        if not self._keep_name:
            return self._key
        claim = names.Claim(
            lambda key: self._object.create_if_absent(key, source),
            self._object.delete,
            self._object.exists,
            is_used,
        )
        return claim.exactly(self._key) if self._new.exact_name else claim.first_free(self._key)


def part_size(size: int | None) -> int:
    """Return the size of the parts, in bytes, so that 10,000 are enough for ``size`` bytes."""
    return min(max(MIN_PART_SIZE, -(-(size or 0) // MAX_PARTS)), MAX_PART_SIZE)

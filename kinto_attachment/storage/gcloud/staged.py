"""A file that one request sends to Google: one request if it is small, else an upload session.

Holds one chunk in memory; one upload at a time holds two.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.content import Buffer, checksum
from kinto_attachment.storage.gcloud.new_object import NewObject
from kinto_attachment.storage.gcloud.session import GoogleError, Object
from kinto_attachment.storage.gcloud.upload import CHUNK_SIZE, Upload
from kinto_attachment.storage.staged import IsUsed, NewFile, StagedFile


class GCloudStagedFile(StagedFile):
    """Sends the first chunk when there is more than one; the rest while it arrives.

    With a random name, the upload session makes the file. Another name may be taken when all has
    arrived, and the name of a session is fixed: it makes a hidden object, of which ``finish()``
    composes, inside Google, the file with the name that it gets.
    """

    def __init__(self, bucket: Bucket, new: NewFile, name: str, attributes: Mapping[str, Any]):
        """``name`` is the one that the file should get; ``attributes`` are those of
        ``attributes_of()``."""
        self._bucket = bucket
        self._new = new
        self._name = name
        self._keep_name = not new.is_random
        self._object = NewObject(bucket, attributes, uuid4().hex, new.sha256)
        self._buffer = Buffer(CHUNK_SIZE)
        self._upload: Upload | None = None
        self._crc32c = 0
        self._size = 0

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with self._bucket.errors(f"write to {self._name!r}"):
            self._crc32c = checksum(self._crc32c, rest)
            self._size += len(rest)
            while rest:
                # Only once there is more: what is small goes in one request.
                if len(self._buffer) == CHUNK_SIZE:
                    self._send()
                rest = rest[self._buffer.fill(rest) :]

    def _finish(self, is_used: IsUsed | None) -> str:
        with self._bucket.errors(f"store {self._name!r}"):
            name = self._claim(is_used) if self._keep_name else self._store()
        # Not left to the garbage collector: a traceback may refer to this file for a while.
        self._buffer.close()
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # the last one first, each even if others fail
            steps.callback(self._buffer.close)
            steps.callback(self._object.remove_created)
            if self._upload is not None:
                steps.callback(self._upload.abort)

    def _send(self) -> None:
        """Send the buffer, and replace it by an empty one."""
        if self._upload is None:
            name = names.hidden() if self._keep_name else self._name
            self._upload = self._object.start_upload(name, hidden=self._keep_name)
        self._buffer = self._upload.send(self._buffer)

    def _store(self) -> str:
        """Store what is left under a name of no other file."""
        if self._upload is None:
            _own(self._insert(self._name))
        else:
            self._finish_upload(self._upload)
        return self._name

    def _claim(self, is_used: IsUsed | None) -> str:
        """Store what is left; give the file a name that no other has."""
        create: Callable[[str], Object | None]
        if self._upload is None:
            create = self._insert
        else:
            hidden = self._finish_upload(self._upload)
            create = functools.partial(self._compose, hidden)
        claim = names.Claim(
            lambda name: create(name) is not None,
            self._object.delete,
            self._object.exists,
            is_used,
        )
        exact = self._new.exact_name
        name = claim.exactly(self._name) if exact else claim.first_free(self._name)
        if self._upload is not None:
            hidden_name = self._upload.name
            best_effort(f"remove {hidden_name!r}", self._bucket.delete, hidden_name)
        return name

    def _insert(self, name: str) -> Object | None:
        return self._object.insert(name, self._buffer, self._crc32c)

    def _compose(self, hidden: Object, name: str) -> Object | None:
        source = (hidden["name"], hidden["generation"])
        return self._object.compose(name, [source], self._crc32c, self._size)

    def _finish_upload(self, upload: Upload) -> Object:
        """Send the last chunk, to a name of no other file."""
        stored = self._object.finish_upload(upload, self._buffer, self._crc32c, self._size)
        return _own(stored)


def _own(stored: Object | None) -> Object:
    if stored is None:
        raise GoogleError("a random name is taken")
    return stored

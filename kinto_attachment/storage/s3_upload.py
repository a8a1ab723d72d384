"""A file on its way to S3: one request if it is small, else parts while it is still arriving.

Never more than two parts are held in memory. What S3 may have stored although it reported a
failure is looked for and removed: every object carries the id of the upload that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from kinto_attachment.storage import StagedFile, logger, names
from kinto_attachment.storage.s3_bucket import Bucket, error_code, http_status
from kinto_attachment.storage.s3_requests import MAX_PARTS, Part, PartsUpload, PutUpload

# What S3 wants a part to have at least, but for the last one.
MIN_PART_SIZE = 5 * 1024 * 1024
# Whatever size is announced: two parts of each upload are in memory. Makes 625 GiB.
MAX_PART_SIZE = 64 * 1024 * 1024

_MARK = "upload"


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
        self._mark = uuid4().hex
        self._attributes = {**attributes, "Metadata": {_MARK: self._mark}}
        self._part_size = min(max(MIN_PART_SIZE, -(-(size or 0) // MAX_PARTS)), MAX_PART_SIZE)
        self._buffer = Part(self._part_size)
        self._parts: PartsUpload | None = None
        self._left_behind: set[str] = set()

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
            if self._parts is None:
                if not self._keep_name:
                    self._complete(self._put(self._key))
            else:
                self._send_part()
                self._complete(self._parts)
            name = self._key
            if self._keep_name:
                name = names.claim(self._key, self._take, self._taken)
        if self._keep_name and self._parts is not None:
            self._remove_copied(self._parts.key)
        self._release()
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # the last one first, each whatever the others do
            steps.callback(self._release)
            for key in self._left_behind:
                steps.callback(self._delete_if_ours, key)
            if self._parts is not None:
                steps.callback(self._parts.abort)

    def _release(self) -> None:
        # Not left to the garbage collector: a traceback may hold on to us for a while.
        self._buffer.close()

    def _send_part(self) -> None:
        """Let the buffer go up, and go on with an empty one."""
        if self._parts is None:
            key = names.part() if self._keep_name else self._key
            self._parts = PartsUpload(self._bucket, key, self._attributes)
        self._buffer = self._parts.send(self._buffer)

    def _take(self, key: str) -> bool:
        """Store the file as ``key``, unless there is such an object."""
        with contextlib.ExitStack() as undo:
            upload: PartsUpload | PutUpload
            if self._parts is None:
                upload = self._put(key)
            elif self._taken(key):
                return False
            else:
                upload = PartsUpload(self._bucket, key, self._attributes)
                undo.callback(upload.abort)
                upload.copy(self._parts)
            # A store may look first and write later, or not heed the condition at all. Among the
            # threads of this process at least, the lock makes one step of it.
            with self._bucket.lock(key):
                took = self._complete_if_free(upload)
            if took:
                undo.pop_all()
        return took

    def _complete_if_free(self, upload: PartsUpload | PutUpload) -> bool:
        if self._taken(upload.key):
            return False
        if self._bucket.conditional_writes:
            try:
                self._complete(upload, IfNoneMatch="*")
                return True
            except ClientError as error:
                if http_status(error) in (409, 412):
                    # By ourselves, where boto3 has sent the request again after a lost answer.
                    return self._is_ours(upload.key)
                if not _is_unknown_condition(error):
                    raise
            if self._bucket.head(upload.key) is not None:
                return False
        self._complete(upload)
        self._bucket.conditional_writes = False
        return True

    def _complete(self, upload: PartsUpload | PutUpload, **condition: str) -> None:
        """Make the object. Unless S3 has certainly not done so, ``discard()`` looks for it."""
        self._left_behind.add(upload.key)
        try:
            upload.complete(**condition)
        except (ConnectTimeoutError, EndpointConnectionError):
            self._left_behind.discard(upload.key)
            raise
        except ClientError as error:
            if http_status(error) < 500 or _is_unknown_condition(error):
                self._left_behind.discard(upload.key)
            raise

    def _put(self, key: str) -> PutUpload:
        return PutUpload(self._bucket, key, self._attributes, self._buffer)

    def _taken(self, key: str) -> bool:
        try:
            return self._bucket.head(key) is not None
        except ClientError as error:
            # What AWS answers for a missing key where s3:ListBucket is not permitted. Then the
            # condition alone decides.
            if http_status(error) == 403 and self._bucket.conditional_writes:
                return False
            raise

    def _is_ours(self, key: str) -> bool:
        head = self._bucket.head(key)
        return head is not None and head["Metadata"].get(_MARK) == self._mark

    def _delete_if_ours(self, key: str) -> None:
        if self._is_ours(key):
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)

    def _remove_copied(self, key: str) -> None:
        try:
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)
        except Exception:
            # The file is stored: this must not fail it.
            logger.warning("The leftover %s could not be deleted", key, exc_info=True)


def _is_unknown_condition(error: ClientError) -> bool:
    """Whether the store says that it does not know conditional writes."""
    code = error_code(error)
    return http_status(error) == 501 or code in ("NotImplemented", "InvalidArgument")

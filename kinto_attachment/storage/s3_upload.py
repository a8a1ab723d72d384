"""A file on its way to S3: one request if it is small, else parts while it is still arriving.

Never more than two parts are held in memory. What S3 may have stored although it reported a
failure is looked for and removed: every object carries the id of the upload that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from kinto_attachment.storage import StagedFile, logger, names
from kinto_attachment.storage.s3_bucket import Bucket, error_code, http_status

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIN_PART_SIZE = 5 * 1024 * 1024
MAX_PARTS = 10_000
# Of a copy inside S3. At most 5 GiB; a smaller one is answered before the client loses patience.
COPY_PART_SIZE = 256 * 1024 * 1024

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
        self._part_size = max(MIN_PART_SIZE, -(-(size or 0) // MAX_PARTS))
        self._buffer = BytesIO()
        self._spare = BytesIO()
        self._parts: _PartsUpload | None = None
        self._left_behind: set[str] = set()

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with self._bucket.errors(f"write to {self._key!r}"):
            while rest:
                room = self._part_size - self._buffer.tell()
                if room:
                    self._buffer.write(rest[:room])
                    rest = rest[room:]
                else:
                    self._send_part()

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
        self._spare.close()

    def _send_part(self) -> None:
        """Let the full buffer go up, and go on with the other one once it has gone up."""
        if self._parts is None:
            key = names.part() if self._keep_name else self._key
            self._parts = _PartsUpload(self._bucket, key, self._attributes)
        self._buffer.truncate()
        self._parts.send(self._buffer)
        self._buffer, self._spare = self._spare, self._buffer
        self._buffer.seek(0)

    def _take(self, key: str) -> bool:
        """Store the file as ``key``, unless there is such an object."""
        with contextlib.ExitStack() as undo:
            upload: _PartsUpload | _PutUpload
            if self._parts is None:
                upload = self._put(key)
            elif self._taken(key):
                return False
            else:
                upload = _PartsUpload(self._bucket, key, self._attributes)
                undo.callback(upload.abort)
                upload.copy(self._parts)
            # A store may look first and write later, or not heed the condition at all. Among the
            # threads of this process at least, the lock makes one step of it.
            with self._bucket.lock(key):
                took = self._complete_if_free(upload)
            if took:
                undo.pop_all()
        return took

    def _complete_if_free(self, upload: _PartsUpload | _PutUpload) -> bool:
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

    def _complete(self, upload: _PartsUpload | _PutUpload, **condition: str) -> None:
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

    def _put(self, key: str) -> _PutUpload:
        return _PutUpload(self._bucket, key, self._attributes, self._buffer)

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


class _PutUpload:
    """A file that goes up in one request."""

    def __init__(
        self, bucket: Bucket, key: str, attributes: Mapping[str, Any], content: BytesIO
    ) -> None:
        self.key = key
        self._bucket = bucket
        self._attributes = attributes
        self._content = content

    def complete(self, **condition: str) -> None:
        self._content.seek(0)
        self._bucket.client.put_object(
            Bucket=self._bucket.name,
            Key=self.key,
            Body=self._content,
            **self._attributes,
            **condition,
        )


class _PartsUpload:
    """A multipart upload. One part at a time is on its way, in a thread of its own.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    def __init__(self, bucket: Bucket, key: str, attributes: Mapping[str, Any]) -> None:
        self.key = key
        self.size = 0
        self._bucket = bucket
        self._etags: list[str] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kinto-attachment-s3")
        self._on_its_way: Future[str] | None = None
        self._upload = {"Bucket": bucket.name, "Key": key}
        created = bucket.client.create_multipart_upload(**self._upload, **attributes)
        self._upload["UploadId"] = created["UploadId"]

    def send(self, part: BytesIO) -> None:
        """Send what is in ``part`` next, once the part before has gone up; do not wait for it.
        Raises boto3's errors about the part before."""
        self._wait()
        self.size += part.tell()
        self._on_its_way = self._worker.submit(self._send, len(self._etags) + 1, part)

    def copy(self, source: _PartsUpload) -> None:
        """Take all parts from the object that ``source`` has made, within S3."""
        size = source.size
        part_size = max(COPY_PART_SIZE, -(-size // MAX_PARTS))
        for number, start in enumerate(range(0, size, part_size), 1):
            copied = self._bucket.client.upload_part_copy(
                **self._upload,
                PartNumber=number,
                CopySource={"Bucket": self._bucket.name, "Key": source.key},
                CopySourceRange=f"bytes={start}-{min(start + part_size, size) - 1}",
            )
            self._etags.append(copied["CopyPartResult"]["ETag"])

    def complete(self, **condition: str) -> None:
        """Make one object of the parts."""
        self._wait()
        self._worker.shutdown()
        parts = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)
        ]
        self._bucket.client.complete_multipart_upload(
            **self._upload, MultipartUpload={"Parts": parts}, **condition
        )

    def abort(self) -> None:
        """Have S3 drop the parts. Does nothing if the upload is complete or aborted."""
        # S3 would keep a part that comes after the abort.
        self._worker.shutdown()
        try:
            self._bucket.client.abort_multipart_upload(**self._upload)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise

    def _send(self, number: int, part: BytesIO) -> str:
        part.seek(0)
        sent = self._bucket.client.upload_part(**self._upload, PartNumber=number, Body=part)
        etag: str = sent["ETag"]
        return etag

    def _wait(self) -> None:
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            try:
                self._etags.append(on_its_way.result())
            finally:
                # Its error refers to this frame: a cycle, that only the collector would free.
                del on_its_way


def _is_unknown_condition(error: ClientError) -> bool:
    """Whether the store says that it does not know conditional writes."""
    code = error_code(error)
    return http_status(error) == 501 or code in ("NotImplemented", "InvalidArgument")

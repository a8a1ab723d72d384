"""The requests that make an object of S3: one for all of it, or several for its parts.

Their content is in memory, in buffers that go back to the system as soon as they are closed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import mmap
from typing import Any

from botocore.exceptions import ClientError

from kinto_attachment.storage.s3_bucket import Bucket, error_code

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
# Of a copy inside S3. At most 5 GiB; a smaller one is answered before the client loses patience.
COPY_PART_SIZE = 256 * 1024 * 1024

_READ_SIZE = 256 * 1024


class Part:
    """Some bytes in memory, at most ``capacity``, that boto3 can read like a file.

    Not a ``BytesIO``: what that frees, the process keeps for a while, and it may copy to grow.
    """

    def __init__(self, capacity: int) -> None:
        self._memory = mmap(-1, capacity)  # takes no memory before it is written to
        self.capacity = capacity
        self._length = 0
        self._position = 0

    def fill(self, chunk: memoryview) -> int:
        """Append the start of ``chunk``; return how many bytes there was room for."""
        count = min(len(chunk), self.capacity - self._length)
        self._memory[self._length : self._length + count] = chunk[:count]
        self._length += count
        return count

    def clear(self) -> None:
        """Be empty again."""
        self._length = self._position = 0

    def close(self) -> None:
        """Give the memory back to the system."""
        self._memory.close()

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, maybe fewer than ``size``; none at the end."""
        wanted = _READ_SIZE if size < 0 else min(size, _READ_SIZE)
        start, self._position = self._position, min(self._position + wanted, self._length)
        return self._memory[start : self._position]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._position, self._length)[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position


class PutUpload:
    """A file that goes up in one request."""

    def __init__(
        self, bucket: Bucket, key: str, attributes: Mapping[str, Any], content: Part
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


class PartsUpload:
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
        self._sent: Part | None = None
        self._upload = {"Bucket": bucket.name, "Key": key}
        created = bucket.client.create_multipart_upload(**self._upload, **attributes)
        self._upload["UploadId"] = created["UploadId"]

    def send(self, part: Part) -> Part:
        """Send ``part``, once the one before has gone up; do not wait for it. Return an empty
        part to fill meanwhile. Raises boto3's errors about the part before."""
        self._wait()
        self.size += len(part)
        number = len(self._etags) + 1
        free = Part(part.capacity) if self._sent is None else self._sent
        free.clear()
        self._sent = part
        self._on_its_way = self._worker.submit(self._send, number, part)
        return free

    def copy(self, source: PartsUpload) -> None:
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
        self._end_sending()
        parts = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)
        ]
        self._bucket.client.complete_multipart_upload(
            **self._upload, MultipartUpload={"Parts": parts}, **condition
        )

    def abort(self) -> None:
        """Have S3 drop the parts. Does nothing if the upload is complete or aborted."""
        # S3 would keep a part that comes after the abort.
        self._end_sending()
        try:
            self._bucket.client.abort_multipart_upload(**self._upload)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise

    def _send(self, number: int, part: Part) -> str:
        part.seek(0)
        sent = self._bucket.client.upload_part(**self._upload, PartNumber=number, Body=part)
        etag: str = sent["ETag"]
        return etag

    def _end_sending(self) -> None:
        self._worker.shutdown()
        if self._sent is not None:
            self._sent.close()

    def _wait(self) -> None:
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            try:
                self._etags.append(on_its_way.result())
            finally:
                # Its error refers to this frame: a cycle, that only the collector would free.
                del on_its_way

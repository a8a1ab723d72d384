"""The requests that make an object of S3: one for all of it, or several for its parts.

Their content is in memory, in buffers that go back to the system as soon as they are closed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from botocore.exceptions import ClientError

from kinto_attachment.storage.s3.bucket import Bucket, error_code

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


@dataclass(frozen=True)
class Whole:
    """An object that is there, of ``size`` bytes."""

    key: str
    size: int


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
    """A multipart upload, that takes the memory of one part: it goes up, or is filled.

    One upload at a time has the memory of two: both are on their way most of the time, since a
    store takes longer to answer than a part to be filled. The uploads beside it keep server and
    store busy as it is.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        upload_id: str,
        *,
        count: int = 0,
        size: int = 0,
        etags: Mapping[int, str] | None = None,
    ) -> None:
        """Go on with an upload of which other processes have sent ``count`` parts, ``size``
        bytes; ``etags`` are their ``sent_again``."""
        self.key = key
        self.id = upload_id
        self.count = count
        self.size = size
        self.sent_again = dict(etags or {})
        """The ETags of parts, by their numbers, whose place somebody has filled before with
        something else. SeaweedFS keeps both, and lists both."""
        self._bucket = bucket
        # By the parts' numbers, which start at 1.
        self._etags = dict(self.sent_again)
        self._sent_before: dict[int, set[str]] = {}
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="kinto-attachment-s3")
        self._on_their_way: deque[tuple[int, Part, Future[str]]] = deque()
        self._has_spare = False
        self._upload = {"Bucket": bucket.name, "Key": key, "UploadId": upload_id}

    @classmethod
    def create(cls, bucket: Bucket, key: str, attributes: Mapping[str, Any]) -> PartsUpload:
        """Start an upload."""
        created = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key, **attributes)
        return cls(bucket, key, created["UploadId"])

    def send(self, part: Part, next_size: int | None = None) -> Part:
        """Send ``part``. Return an empty part to fill, of ``next_size`` or as large as this one;
        wait until there is memory for it. Raises boto3's errors about this part, or the one
        before."""
        self.count += 1
        self.size += len(part)
        sending = self._workers.submit(self._send, self.count, part)
        self._on_their_way.append((self.count, part, sending))
        if not self._has_spare:
            self._has_spare = self._bucket.spare_part.acquire(blocking=False)
        capacity = next_size or part.capacity
        if self._has_spare and len(self._on_their_way) == 1:
            return Part(capacity)
        free = self._wait_for_one()
        if free.capacity == capacity:
            free.clear()
            return free
        free.close()
        return Part(capacity)

    def wait(self) -> None:
        """Wait until all parts have gone up. Raises boto3's errors about the last ones."""
        while self._on_their_way:
            self._wait_for_one().close()

    def copy(self, source: Whole) -> None:
        """Take all parts from an object, within S3."""
        part_size = max(COPY_PART_SIZE, -(-source.size // MAX_PARTS))
        for start in range(0, source.size, part_size):
            self.count += 1
            copied = self._bucket.client.upload_part_copy(
                **self._upload,
                PartNumber=self.count,
                CopySource={"Bucket": self._bucket.name, "Key": source.key},
                CopySourceRange=f"bytes={start}-{min(start + part_size, source.size) - 1}",
            )
            self._etags[self.count] = copied["CopyPartResult"]["ETag"]

    def look_up(self) -> bool:
        """Find out whether it is neither complete nor aborted, and which parts there are after
        those that count: a killed process has sent them."""
        try:
            for number, _, etag in self._listed(after=self.count):
                self._sent_before.setdefault(number, set()).add(etag)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            return False
        return True

    def recall(self, size_of: Callable[[int], int]) -> bool:
        """Ask S3 for the parts that other processes have sent; whether all are there. The part of
        a number has ``size_of(number)`` bytes."""
        if len(self._etags) < self.count:
            found: dict[int, set[str]] = {}
            for number, size, etag in self._listed():
                if number <= self.count and size == size_of(number):
                    found.setdefault(number, set()).add(etag)
            for number, (etag, *others) in found.items():
                # Which one of several is the right one, nobody knows.
                if not others:
                    self._etags.setdefault(number, etag)
        return len(self._etags) == self.count

    def complete(self, **condition: str) -> None:
        """Make one object of the parts."""
        self.wait()
        self.close()
        parts = [
            {"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())
        ]
        self._bucket.client.complete_multipart_upload(
            **self._upload, MultipartUpload={"Parts": parts}, **condition
        )

    def abort(self) -> None:
        """Have S3 drop the parts. Does nothing if the upload is complete or aborted."""
        # S3 would keep a part that comes after the abort.
        self.close()
        abort(self._bucket, self.key, self.id)

    def close(self) -> None:
        """Wait for the parts that are on their way, and release memory and threads."""
        self._workers.shutdown()
        for _, part, _ in self._on_their_way:
            part.close()
        self._on_their_way.clear()
        if self._has_spare:
            self._has_spare = False
            self._bucket.spare_part.release()

    def _listed(self, after: int = 0) -> Iterator[tuple[int, int, str]]:
        """Number, size and ETag of the parts."""
        pages = self._bucket.client.get_paginator("list_parts")
        for page in pages.paginate(**self._upload, PartNumberMarker=after):
            for part in page.get("Parts", ()):
                yield part["PartNumber"], part["Size"], part["ETag"]

    def _wait_for_one(self) -> Part:
        """Wait until the part that was sent first has gone up, and return it."""
        number, part, sending = self._on_their_way.popleft()
        try:
            etag = self._etags[number] = sending.result()
        except BaseException:
            part.close()
            raise
        finally:
            # Its error refers to this frame: a cycle, that only the collector would free.
            del sending
        if self._sent_before.get(number, {etag}) != {etag}:
            self.sent_again[number] = etag
        return part

    def _send(self, number: int, part: Part) -> str:
        part.seek(0)
        sent = self._bucket.client.upload_part(**self._upload, PartNumber=number, Body=part)
        etag: str = sent["ETag"]
        return etag


def abort(bucket: Bucket, key: str, upload_id: str) -> None:
    """Have S3 drop a multipart upload. Does nothing if it is complete or aborted."""
    try:
        bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise


def abort_all(bucket: Bucket, key: str) -> None:
    """Have S3 drop every multipart upload to ``key``, a name with a UUID in it: nobody else's
    starts like that."""
    pages = bucket.client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=bucket.name, Prefix=key):
        for entry in page.get("Uploads", ()):
            abort(bucket, entry["Key"], entry["UploadId"])

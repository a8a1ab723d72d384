"""The two ways to send an object to S3: PutObject, or a multipart upload.

Their content is in memory, in buffers that go back to the system as soon as they are closed.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from botocore.exceptions import ClientError

from kinto_attachment.storage.base import CHUNK_SIZE, FileTooLargeForStorage
from kinto_attachment.storage.s3.bucket import Bucket, error_code, http_status
from kinto_attachment.storage.s3.checksums import CRC32, encoded

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
# Of UploadPartCopy. S3 allows 5 GiB; a smaller part is answered before the client times out.
COPY_PART_SIZE = 256 * 1024 * 1024
# Of a part that is in memory to be copied: the least that S3 accepts.
_SENT_PART_SIZE = 5 * 1024 * 1024

_READ_SIZE = 256 * 1024
# boto3's connection waits so long as its timeout for each. Smaller ones take more processor time.
_PIECE_SIZE = 64 * 1024


class PartBuffer:
    """At most ``capacity`` bytes in memory, that boto3 can read like a file.

    Not a ``BytesIO``: the process keeps for a while what that frees, and growing may copy it.
    """

    def __init__(self, capacity: int) -> None:
        self._memory = mmap(-1, capacity)  # takes no memory before it is written to
        self.capacity = capacity
        self._length = 0
        self._position = 0
        self._pieces = Pieces(self._memory, 0)

    def fill(self, chunk: memoryview) -> int:
        """Append the start of ``chunk``; return how many bytes there was room for."""
        count = min(len(chunk), self.capacity - self._length)
        self._memory[self._length : self._length + count] = chunk[:count]
        self._length += count
        return count

    def clear(self) -> None:
        self._length = self._position = 0

    def close(self) -> None:
        """Give the memory back to the system."""
        self._pieces.close()
        self._memory.close()

    def pieces(self) -> Pieces:
        """Return the bytes as an iterable of views, valid until the next call, or ``close()``."""
        self._pieces.close()
        self._pieces = Pieces(self._memory, self._length)
        return self._pieces

    def crc32(self) -> str:
        """Return the checksum as S3 writes it."""
        with memoryview(self._memory) as memory, memory[: self._length] as content:
            return encoded(content)

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


class Pieces:
    """The first ``length`` bytes of ``memory``, to be sent without a copy."""

    def __init__(self, memory: mmap, length: int) -> None:
        self._memory = memory
        self._length = length
        self._iterator: Generator[memoryview, None, None] | None = None

    def __iter__(self) -> Iterator[memoryview]:
        self.close()
        self._iterator = self._views()
        return self._iterator

    def seek(self, offset: int) -> int:
        """Do nothing: boto3 rewinds what it sends once more, and iterates anew."""
        return offset

    def close(self) -> None:
        """Release the memory: the traceback of a failed request refers to it for a while."""
        if self._iterator is not None:
            self._iterator.close()

    def _views(self) -> Generator[memoryview, None, None]:
        with memoryview(self._memory) as memory:
            for start in range(0, self._length, _PIECE_SIZE):
                with memory[start : min(start + _PIECE_SIZE, self._length)] as piece:
                    yield piece


@dataclass(frozen=True)
class StoredObject:
    """An object in the bucket, of ``size`` bytes."""

    key: str
    size: int


class PutObject:
    """Sends an object in one request."""

    def __init__(
        self, bucket: Bucket, key: str, attributes: Mapping[str, Any], content: PartBuffer
    ) -> None:
        self.key = key
        self.size = len(content)
        self._bucket = bucket
        self._attributes = attributes
        self._content = content

    def complete(self, **condition: str) -> None:
        self._bucket.checksums.send(
            self._bucket.client.put_object,
            self._content,
            self._content.crc32(),
            Bucket=self._bucket.name,
            Key=self.key,
            **self._attributes,
            **condition,
        )


class MultipartUpload:
    """A multipart upload that has one part in memory, which is filled or sent.

    One upload at a time has two, and sends both: S3 takes longer to answer than a client to fill
    a part. With one part each, the others keep server and S3 busy as it is.

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
        """Continue an upload of which other processes have sent ``count`` parts, ``size`` bytes;
        ``etags`` are their ``replaced_etags``."""
        self.key = key
        self.id = upload_id
        self.count = count
        self.size = size
        self.replaced_etags = dict(etags or {})
        """The ETags, by number, of parts that replace a part with other content. SeaweedFS keeps
        and lists both."""
        self._bucket = bucket
        # By the parts' numbers, which start at 1.
        self._etags = dict(self.replaced_etags)
        self._checksums: dict[int, dict[str, str]] = {}
        self._earlier_etags: dict[int, set[str]] = {}
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="kinto-attachment-s3")
        self._in_flight: deque[tuple[int, PartBuffer, Future[str]]] = deque()
        self._has_second_buffer = False
        self._upload = {"Bucket": bucket.name, "Key": key, "UploadId": upload_id}

    @classmethod
    def create(cls, bucket: Bucket, key: str, attributes: Mapping[str, Any]) -> MultipartUpload:
        """Start an upload."""
        created = bucket.checksums.create_upload(
            bucket.client.create_multipart_upload, Bucket=bucket.name, Key=key, **attributes
        )
        return cls(bucket, key, created["UploadId"])

    def send(self, buffer: PartBuffer, next_size: int | None = None) -> PartBuffer:
        """Send a part. Return an empty buffer of ``next_size``, or of the same size; wait until
        there is memory for it. Raises boto3's errors about this part, or the one before, and
        ``FileTooLargeForStorage`` if there are too many."""
        if self.count == MAX_PARTS:
            raise FileTooLargeForStorage(f"{self.key!r} has more than {MAX_PARTS} parts")
        self.count += 1
        self.size += len(buffer)
        sending = self._workers.submit(self._send, self.count, buffer)
        self._in_flight.append((self.count, buffer, sending))
        if not self._has_second_buffer:
            self._has_second_buffer = self._bucket.second_buffer.acquire(blocking=False)
        capacity = next_size or buffer.capacity
        if self._has_second_buffer and len(self._in_flight) == 1:
            return PartBuffer(capacity)
        free = self._wait_for_oldest()
        if free.capacity == capacity:
            free.clear()
            return free
        free.close()
        return PartBuffer(capacity)

    def wait(self) -> None:
        """Wait until all parts are sent. Raises boto3's errors about the last ones."""
        while self._in_flight:
            self._wait_for_oldest().close()

    def copy(self, source: StoredObject) -> bool:
        """Take all parts from an object, inside S3. Return ``False`` if the store cannot do that:
        this upload is of no use then."""
        part_size = max(COPY_PART_SIZE, -(-source.size // MAX_PARTS))
        for start in range(0, source.size, part_size):
            self.count += 1
            try:
                copied = self._bucket.client.upload_part_copy(
                    **self._upload,
                    PartNumber=self.count,
                    CopySource={"Bucket": self._bucket.name, "Key": source.key},
                    CopySourceRange=f"bytes={start}-{min(start + part_size, source.size) - 1}",
                )
            except ClientError as error:
                if http_status(error) != 501:
                    raise
                return False
            # Without a body, the store has taken it for UploadPart, and has stored an empty part.
            if "ETag" not in copied.get("CopyPartResult", {}):
                return False
            self._etags[self.count] = copied["CopyPartResult"]["ETag"]
            self._keep_checksum(self.count, copied["CopyPartResult"])
        self.size = source.size
        return True

    def send_again(self, source: StoredObject) -> None:
        """Take all parts from an object, through this process."""
        buffer = PartBuffer(max(_SENT_PART_SIZE, -(-source.size // MAX_PARTS)))
        found = self._bucket.client.get_object(Bucket=self._bucket.name, Key=source.key)
        with contextlib.closing(found["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK_SIZE):
                rest = memoryview(chunk)
                while rest:
                    if len(buffer) == buffer.capacity:
                        buffer = self.send(buffer)
                    rest = rest[buffer.fill(rest) :]
        self.send(buffer).close()

    def find_later_parts(self) -> bool:
        """Ask S3 for parts after ``count``, which a killed process has sent and which are
        replaced. Return ``False`` if the upload is completed or aborted."""
        try:
            for number, _, etag in self._listed(after=self.count):
                self._earlier_etags.setdefault(number, set()).add(etag)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            return False
        return True

    def find_etags(self, size_of: Callable[[int], int]) -> bool:
        """Ask S3 for the ETags of parts that other processes have sent. The part of a number has
        ``size_of(number)`` bytes. Return ``False`` if a part is missing or ambiguous."""
        if len(self._etags) < self.count:
            found: dict[int, set[str]] = {}
            for number, size, etag in self._listed():
                if number <= self.count and size == size_of(number):
                    found.setdefault(number, set()).add(etag)
            for number, (etag, *others) in found.items():
                if not others:
                    self._etags.setdefault(number, etag)
        return len(self._etags) == self.count

    def complete(self, **condition: str) -> None:
        """Make one object of the parts."""
        self.wait()
        self.close()
        parts = [
            {"PartNumber": number, "ETag": etag, **self._checksums.get(number, {})}
            for number, etag in sorted(self._etags.items())
        ]
        self._bucket.client.complete_multipart_upload(
            **self._upload, MultipartUpload={"Parts": parts}, **condition
        )

    def abort(self) -> None:
        """Have S3 drop the parts. Does nothing if the upload is completed or aborted."""
        # First: S3 would keep a part that arrives after the abort.
        self.close()
        self._bucket.abort(self.key, self.id)

    def close(self) -> None:
        """Wait for the parts in flight, and release memory and threads."""
        self._workers.shutdown()
        for _, buffer, _ in self._in_flight:
            buffer.close()
        self._in_flight.clear()
        if self._has_second_buffer:
            self._has_second_buffer = False
            self._bucket.second_buffer.release()

    def _listed(self, after: int = 0) -> Iterator[tuple[int, int, str]]:
        """Yield number, size and ETag of the parts that S3 has."""
        pages = self._bucket.client.get_paginator("list_parts")
        for page in pages.paginate(**self._upload, PartNumberMarker=after):
            for part in page.get("Parts", ()):
                yield part["PartNumber"], part["Size"], part["ETag"]

    def _wait_for_oldest(self) -> PartBuffer:
        """Wait until the part that was sent first is stored; return its buffer."""
        number, buffer, sending = self._in_flight.popleft()
        try:
            etag = self._etags[number] = sending.result()
        except BaseException:
            buffer.close()
            raise
        finally:
            # Its error refers to this frame: a cycle, that only the collector would free.
            del sending
        if self._earlier_etags.get(number, {etag}) != {etag}:
            self.replaced_etags[number] = etag
        return buffer

    def _send(self, number: int, buffer: PartBuffer) -> str:
        sent = self._bucket.checksums.send(
            self._bucket.client.upload_part,
            buffer,
            buffer.crc32(),
            PartNumber=number,
            **self._upload,
        )
        self._keep_checksum(number, sent)
        etag: str = sent["ETag"]
        return etag

    def _keep_checksum(self, number: int, answer: Mapping[str, Any]) -> None:
        if CRC32 in answer:
            self._checksums[number] = {CRC32: answer[CRC32]}

"""The bytes of objects: small ones in memory, others in unlinked temporary files."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from functools import cached_property

import google_crc32c

_IN_MEMORY = 1024 * 1024
_PIECE = 1024 * 1024
# What Google answers of every object that is not composed. It takes long for large ones.
_MD5_LIMIT = 8 * 1024 * 1024


class Blob:
    """Bytes that grow at their end. Its file is closed with the last reference to it."""

    def __init__(self, data: bytes = b"") -> None:
        self.size = 0
        self.crc32c = 0
        self._memory = bytearray()
        self._descriptor: int | None = None
        self.append(data)

    def append(self, data: bytes) -> None:
        if self._descriptor is None and self.size + len(data) > _IN_MEMORY:
            self._descriptor, path = tempfile.mkstemp(prefix="test-gcs-")
            os.unlink(path)  # noqa: PTH108
            weakref.finalize(self, os.close, self._descriptor)
            _write(self._descriptor, bytes(self._memory))
            self._memory.clear()
        if self._descriptor is None:
            self._memory += data
        else:
            _write(self._descriptor, data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        self.size += len(data)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``."""
        for offset in range(start, stop, _PIECE):
            end = min(offset + _PIECE, stop)
            if self._descriptor is None:
                yield bytes(self._memory[offset:end])
            else:
                yield os.pread(self._descriptor, end - offset, offset)


class Content:
    """The immutable content of an object: one blob, or those of the objects it is composed of."""

    def __init__(self, blobs: Iterable[Blob]) -> None:
        self.blobs = tuple(blobs)
        self.size = sum(blob.size for blob in self.blobs)

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls([Blob(data)])

    @classmethod
    def composed(cls, contents: Iterable[Content]) -> Content:
        """The concatenation of ``contents``. No bytes are copied."""
        return cls(blob for content in contents for blob in content.blobs)

    @cached_property
    def crc32c(self) -> str:
        """As Google writes it: base64 of the big-endian number."""
        first, *others = self.blobs
        checksum = first.crc32c
        for blob in others:
            for piece in blob.read(0, blob.size):
                checksum = google_crc32c.extend(checksum, piece)
        return base64.b64encode(checksum.to_bytes(4, "big")).decode()

    @cached_property
    def md5(self) -> str | None:
        """Base64; left out of large objects, for the sake of benchmarks."""
        if self.size > _MD5_LIMIT:
            return None
        digest = hashlib.md5(self.all(), usedforsecurity=False).digest()
        return base64.b64encode(digest).decode()

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``."""
        stop = self.size if stop is None else min(stop, self.size)
        offset = 0
        for blob in self.blobs:
            yield from blob.read(max(start - offset, 0), min(stop - offset, blob.size))
            offset += blob.size

    def all(self) -> bytes:
        return b"".join(self.read())


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

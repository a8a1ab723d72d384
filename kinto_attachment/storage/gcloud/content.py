"""Bytes on their way to Google: kept in memory until they are stored, with their checksum.

Sent as pieces that can be sent anew: after a 401 the same request is repeated with other
credentials, and of a file that was read nothing would be left.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from mmap import mmap

import google_crc32c

_PIECE_SIZE = 256 * 1024


class Buffer:
    """At most ``capacity`` bytes in memory.

    Not a ``bytearray``: the process keeps for a while what that frees, and growing may copy it.
    """

    def __init__(self, capacity: int) -> None:
        self._memory = mmap(-1, capacity)  # takes no memory before it is written to
        self.capacity = capacity
        self._length = 0

    def fill(self, chunk: memoryview) -> int:
        """Append the start of ``chunk``; return how many bytes there was room for."""
        count = min(len(chunk), self.capacity - self._length)
        self._memory[self._length : self._length + count] = chunk[:count]
        self._length += count
        return count

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``start`` to ``stop``."""
        for position in range(start, stop, _PIECE_SIZE):
            yield self._memory[position : min(position + _PIECE_SIZE, stop)]

    def clear(self) -> None:
        self._length = 0

    def close(self) -> None:
        """Give the memory back to the system."""
        self._memory.close()

    def __len__(self) -> int:
        return self._length


class Body:
    """The body of a request: ``head``, the bytes ``start`` to ``stop`` of ``buffer``, ``tail``."""

    def __init__(
        self,
        buffer: Buffer,
        start: int = 0,
        stop: int | None = None,
        *,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        self._buffer = buffer
        self._start = start
        self._stop = len(buffer) if stop is None else stop
        self._head = head
        self._tail = tail

    def __len__(self) -> int:
        return len(self._head) + self._stop - self._start + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        # requests iterates anew each time that it sends this.
        yield self._head
        yield from self._buffer.pieces(self._start, self._stop)
        yield self._tail


def checksum(crc32c: int, chunk: memoryview) -> int:
    """Return the CRC32C of some bytes followed by ``chunk``, if theirs is ``crc32c`` (0 of
    none)."""
    for start in range(0, len(chunk), _PIECE_SIZE):
        crc32c = google_crc32c.extend(crc32c, bytes(chunk[start : start + _PIECE_SIZE]))
    return crc32c


def encoded(crc32c: int) -> str:
    """Return a CRC32C as Google writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()

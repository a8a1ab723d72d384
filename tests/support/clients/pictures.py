"""Pictures to upload."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

Pixel = Callable[[int, int], tuple[int, int, int]]


def png(size: int, pixel: Pixel = lambda x, y: (255, 0, 0)) -> bytes:
    """A square, red unless ``pixel`` says the red, green and blue of the point ``x``, ``y``."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    places = range(size)
    rows = b"".join(b"\0" + bytes(c for x in places for c in pixel(x, y)) for y in places)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

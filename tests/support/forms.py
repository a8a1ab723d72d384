"""Forms as clients send them, also as no client should."""

from __future__ import annotations

from collections.abc import Sequence

BOUNDARY = "boundary-of-the-test"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def file_part(
    content: bytes = b"content",
    filename: str | bytes | None = "file.txt",
    content_type: str | None = None,
    name: str = "attachment",
    disposition: bytes | None = None,
) -> bytes:
    """A part with a file. ``disposition`` replaces what follows the name in its header."""
    if disposition is None:
        encoded = filename.encode() if isinstance(filename, str) else filename
        disposition = b"" if encoded is None else b'; filename="' + encoded + b'"'
    header = f'Content-Disposition: form-data; name="{name}"'.encode() + disposition
    if content_type is not None:
        header += f"\r\nContent-Type: {content_type}".encode()
    return header + b"\r\n\r\n" + content


def field_part(name: str, text: str | bytes) -> bytes:
    """A part with a small field."""
    return file_part(text.encode() if isinstance(text, str) else text, None, name=name)


def form(parts: Sequence[bytes], boundary: str = BOUNDARY, end: bytes = b"--\r\n") -> bytes:
    """The body with these parts. ``end`` is what follows the last boundary."""
    delimiter = b"--" + boundary.encode()
    return b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + end


class Unread:
    """A stream that must not be read further than ``limit`` bytes."""

    def __init__(self, content: bytes = b"", limit: int = 0) -> None:
        self._rest = content
        self._limit = limit

    def read(self, size: int) -> bytes:
        chunk, self._rest = self._rest[:size], self._rest[size:]
        self._limit -= len(chunk) or 1
        assert self._limit >= 0, "the body was read on"
        return chunk

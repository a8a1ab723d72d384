"""A body on its way into an upload: checked, written, and saved from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kinto_attachment.http.body import ConnectionLost, Stream, chunks
from kinto_attachment.storage import ResumableFile
from kinto_attachment.tus.headers import Checksum
from kinto_attachment.tus.lease import Lease

# What a killed process loses at most.
_SAVE_SECONDS = 5
_SAVE_BYTES = 64 * 1024 * 1024


class ChecksumMismatch(Exception):
    """What came in is not what the client says that it has sent."""


class TooLong(Exception):
    """The client sends more than it has announced."""


@dataclass(frozen=True)
class Body:
    """The body of one request. ``length`` is in bytes, ``None`` if only its end will tell."""

    stream: Stream
    length: int | None
    checksum: Checksum | None = None

    def chunks(self, room: int | None) -> Iterator[bytes]:
        """Read it. Raises ``ConnectionLost``; ``TooLong`` before what is beyond ``room`` bytes;
        and ``ChecksumMismatch`` at the end."""
        received = 0
        hashed = None if self.checksum is None else self.checksum.start()
        for chunk in chunks(self.stream, self.length):
            received += len(chunk)
            if room is not None and received > room:
                raise TooLong()
            if hashed is not None:
                hashed.update(chunk)
            yield chunk
        if self.length is not None and received < self.length:
            raise ConnectionLost()
        if self.checksum is not None and not self.checksum.matches(hashed):
            raise ChecksumMismatch("The body is not what Upload-Checksum says.")


def receive(
    body: Body,
    file: ResumableFile,
    *,
    room: int | None,
    skip: int = 0,
    lease: Lease | None = None,
    expiry: Callable[[], int] = int,
) -> None:
    """Write ``body`` to ``file``, but its first ``skip`` bytes, which are there already.

    The ``lease`` is renewed. Where nothing has to be checked at the end, what has arrived is
    saved with it from time to time; ``expiry()`` tells when it then expires.
    Raises what ``Body.chunks()``, the file and the lease raise.
    """
    saved_at, saved = time.monotonic(), file.offset
    for chunk in body.chunks(room):
        if lease is not None and lease.is_due:
            lease.save()
        file.write(chunk[skip:])
        skip = max(0, skip - len(chunk))
        if lease is None or body.checksum is not None:
            continue
        now = time.monotonic()
        if now > saved_at + _SAVE_SECONDS or file.offset >= saved + _SAVE_BYTES:
            lease.save(state=file.checkpoint(), expires=expiry())
            saved_at, saved = now, file.offset

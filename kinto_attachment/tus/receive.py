"""Receive the body of one request: checked, written to the file, saved from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kinto_attachment.attachments.quotas import Room
from kinto_attachment.errors import (
    BodyTooLong,
    ChecksumMismatch,
    ConnectionLost,
    MalformedBody,
)
from kinto_attachment.http.body import Stream, chunks
from kinto_attachment.storage import ResumableFile
from kinto_attachment.tus.headers import Checksum
from kinto_attachment.tus.lease import Lease
from kinto_attachment.tus.received import Received

# What a killed process loses at most.
_SAVE_SECONDS = 5
_SAVE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Body:
    """The body of one request. ``length`` is in bytes, ``None`` if only its end tells."""

    stream: Stream
    length: int | None
    checksum: Checksum | None = None
    quota: Room | None = None
    """How many bytes there may be of it."""

    def check_length(self, room: int | None) -> None:
        """Raise ``BodyTooLong`` if more than ``room`` bytes are announced; ``None``: no limit."""
        if room is not None and self.length is not None and self.length > room:
            raise BodyTooLong()

    def chunks(self, room: int | None) -> Iterator[bytes]:
        """Yield the body. Raises ``MalformedBody``; ``BodyTooLong`` before what is beyond
        ``room`` bytes, ``QuotaExceeded`` likewise; ``ChecksumMismatch`` at the end."""
        received = 0
        hashed = None if self.checksum is None else self.checksum.start()
        for chunk in chunks(self.stream, self.length):
            received += len(chunk)
            if room is not None and received > room:
                raise BodyTooLong()
            if self.quota is not None:
                self.quota.check(received)
            if hashed is not None:
                hashed.update(chunk)
            yield chunk
        if self.length is not None and received < self.length:
            raise ConnectionLost()
        if self.checksum is not None and not self.checksum.matches(hashed):
            raise ChecksumMismatch()


def receive(body: Body, file: ResumableFile, room: int | None, received: Received) -> None:
    """Append ``body`` to ``file``. Raises what ``Body.chunks()`` and the file raise."""
    for chunk in body.chunks(room):
        file.write(chunk)
        received.update(chunk)


def receive_leased(
    body: Body,
    file: ResumableFile,
    lease: Lease,
    room: int | None,
    received: Received,
    *,
    skip: int,
    expiry: Callable[[], int],
) -> None:
    """Append ``body`` to ``file`` but its first ``skip`` bytes, which are there already.

    Renews the lease. Without a checksum, which can only be verified at the end, saves what has
    arrived from time to time, and when the rest cannot be read; ``expiry()`` is when it then
    expires. Raises what ``receive()`` and the lease raise.
    """
    saved_at, saved = time.monotonic(), file.offset
    try:
        for chunk in body.chunks(room):
            lease.renew()
            new = chunk[skip:]
            file.write(new)
            received.update(new)
            skip = max(0, skip - len(chunk))
            now = time.monotonic()
            is_due = now > saved_at + _SAVE_SECONDS or file.offset >= saved + _SAVE_BYTES
            if is_due and body.checksum is None:
                lease.save(state=file.checkpoint(), expires=expiry())
                received.save()
                saved_at, saved = now, file.offset
    except MalformedBody:
        if body.checksum is None:
            lease.save(state=file.checkpoint(), expires=expiry())
            received.save()
        raise

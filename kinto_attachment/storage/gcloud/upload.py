"""A large object on its way to Google, in chunks that are sent while the next one is filled."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.content import Buffer
from kinto_attachment.storage.gcloud.session import ApiError, Object

CHUNK_SIZE = 4 * 1024 * 1024
"""Bytes that an upload holds in memory, and sends in one request."""


class Upload:
    """An upload session that has one chunk in memory, which is filled or sent.

    One upload at a time has two, and fills one while it sends the other. With one each, the others
    keep server and Google busy as it is. Its methods raise ``GoogleError``.
    """

    def __init__(self, bucket: Bucket, name: str, attributes: Mapping[str, Any]) -> None:
        """Start an upload to ``name``."""
        self.name = name
        self._session = bucket.start_session(name, attributes)
        self._second_buffer = bucket.second_buffer
        self._has_second_buffer = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kinto-attachment-gcloud")
        self._in_flight: tuple[Buffer, Future[None]] | None = None
        self._is_over = False

    def send(self, buffer: Buffer) -> Buffer:
        """Send a chunk that others follow; return an empty buffer. Raises errors about this
        chunk, or the one before."""
        free = self._wait()
        if free is None and not self._has_second_buffer:
            self._has_second_buffer = self._second_buffer.acquire(blocking=False)
        if not self._has_second_buffer:
            self._session.send(buffer)
            free = buffer
        else:
            self._in_flight = buffer, self._worker.submit(self._session.send, buffer)
            free = free or Buffer(buffer.capacity)
        free.clear()
        return free

    def finish(self, buffer: Buffer, crc32c: int) -> Object | None:
        """Send the last chunk; return what ``UploadSession.finish()`` does."""
        if (free := self._wait()) is not None:
            free.close()
        try:
            finished = self._session.finish(buffer, crc32c)
        except ApiError as error:
            self._is_over = not error.is_transient
            raise
        self._is_over = True
        self.close()
        return finished

    def abort(self) -> None:
        """Have Google drop what it has. Does nothing once the last chunk is stored or refused."""
        self.close()
        if not self._is_over:
            self._session.cancel()

    def close(self) -> None:
        """Wait for the chunk in flight, and release memory and thread."""
        self._worker.shutdown()
        if self._in_flight is not None:
            self._in_flight[0].close()
            self._in_flight = None
        if self._has_second_buffer:
            self._has_second_buffer = False
            self._second_buffer.release()

    def _wait(self) -> Buffer | None:
        """Wait until the chunk in flight is kept; return its buffer."""
        if self._in_flight is None:
            return None
        buffer, sending = self._in_flight
        try:
            sending.result()
        finally:
            # Its error refers to this frame: a cycle, that only the collector would free.
            del sending
        self._in_flight = None
        return buffer

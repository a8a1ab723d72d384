"""Files on their way in and out: count the requests that send one, and the bytes of responses."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kinto_attachment.errors import status_of
from kinto_attachment.metrics import SENT_BYTES, UPLOADS_ENDED, UPLOADS_STARTED, Metrics


@dataclass
class Upload:
    """A request that sends a file, or a part of one."""

    is_attached: bool = True
    """Whether a record has the file, if the request succeeds."""


@contextmanager
def counted_upload(request: Any) -> Iterator[Upload]:
    """Count a request as an upload that has started, and that ends with the block: ``attached``,
    ``partial`` (more is to come), ``refused`` (4xx) or ``failed``."""
    metrics: Metrics = request.registry.attachment_metrics
    metrics.count(UPLOADS_STARTED)
    upload, outcome = Upload(), "failed"
    try:
        yield upload
        outcome = "attached" if upload.is_attached else "partial"
    except Exception as error:
        if status_of(error) < 500:
            outcome = "refused"
        raise
    finally:
        metrics.count(UPLOADS_ENDED, value=outcome)


def counted_chunks(chunks: Generator[bytes, None, None], metrics: Metrics) -> Iterator[bytes]:
    """Return ``chunks``, counted as they are sent. Closing it closes them."""
    return _Sent(chunks, metrics) if metrics.is_enabled else chunks


class _Sent(Iterator[bytes]):
    # Not a generator, which would close nothing before its first chunk.

    def __init__(self, chunks: Generator[bytes, None, None], metrics: Metrics) -> None:
        self._chunks = chunks
        self._metrics = metrics

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._metrics.count(SENT_BYTES, len(chunk))
        return chunk

    def close(self) -> None:
        self._chunks.close()

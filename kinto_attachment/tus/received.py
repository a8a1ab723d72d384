"""Inspections of resumable uploads, kept by a process as long as it has received all their bytes.

The file of such an upload need not be read back at its end. A process that has not received all
bytes in their order, or cannot be sure of it, keeps none.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from kinto_attachment.attachments.inspection import Inspection
from kinto_attachment.tus.store import ResumableUpload

# A few hundred bytes each.
_MAX_KEPT = 1000


class Received:
    """The inspection of one upload, while one request appends to it."""

    def __init__(self, inspection: Inspection | None) -> None:
        """``inspection`` covers the stored bytes; ``None`` if there is none of them."""
        self._saved = inspection
        self._current = None if inspection is None else inspection.copy()

    def update(self, chunk: bytes) -> None:
        """Inspect the next bytes, which the file has taken."""
        if self._current is not None:
            self._current.update(chunk)

    def save(self) -> None:
        """Keep the inspection of all bytes so far, which a checkpoint has."""
        self._saved = None if self._current is None else self._current.copy()

    def whole(self, size: int) -> Inspection | None:
        """Return the inspection of the last checkpoint, if it covers ``size`` bytes."""
        return self._saved if self._saved is not None and self._saved.size == size else None


class ReceivedUploads:
    """Keeps inspections from one request to the next, for the threads of a process.

    Each is valid only for the version of the row that its request has written last: any other
    request writes the row before it writes to the file, and a version never comes back.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Inspection]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, upload: ResumableUpload) -> Received:
        """Return the inspection of ``upload``, whose row the caller has locked."""
        with self._lock:
            version, inspection = self._kept.pop(upload.id, (None, None))
        # A request whose lease has ended by itself may still write to the file.
        if upload.lease_expired or upload.owner is not None:
            return Received(None)
        if upload.stored == 0:
            return Received(Inspection(upload.filename, upload.mimetype, None))
        return Received(inspection if version == upload.version else None)

    def keep(self, upload: ResumableUpload, received: Received) -> None:
        """Keep the inspection of ``upload``, whose row was written without an owner. Drops the
        oldest one if there are too many."""
        inspection = received.whole(upload.stored)
        # Before the first byte, any process starts one.
        if inspection is None or upload.done or not upload.stored:
            return
        with self._lock:
            self._kept[upload.id] = upload.version, inspection
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)

    def forget(self, upload_id: str) -> None:
        """Drop the inspection of an upload that is terminated."""
        with self._lock:
            self._kept.pop(upload_id, None)

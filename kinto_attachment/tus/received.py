"""What a process knows of the content of uploads whose bytes it has received itself.

The file of such an upload need not be read back at its end, to look at its content. A process that
has not received all bytes in their order, or cannot be sure of it, knows nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from kinto_attachment.attachments.inspection import Inspection
from kinto_attachment.tus.store import ResumableUpload

# A few hundred bytes each.
_MAX_KEPT = 1000


class Received:
    """The look at the content of one upload, while one request appends to it."""

    def __init__(self, inspection: Inspection | None) -> None:
        """``inspection`` has looked at what is stored; ``None`` if nothing is known of that."""
        self._saved = inspection
        self._current = None if inspection is None else inspection.copy()

    def update(self, chunk: bytes) -> None:
        """Look at the next bytes, which the file has taken."""
        if self._current is not None:
            self._current.update(chunk)

    def save(self) -> None:
        """A checkpoint has all bytes so far: from now on, ``whole()`` is about these."""
        self._saved = None if self._current is None else self._current.copy()

    def whole(self, size: int) -> Inspection | None:
        """Return the look at the ``size`` bytes of the last checkpoint, if it has seen them."""
        return self._saved if self._saved is not None and self._saved.size == size else None


class ReceivedUploads:
    """Keeps the look at an upload from one request to the next, for the threads of a process.

    It is only valid for the row that the request has written last: any other request writes the
    row before it writes to the file, and a row never gets a version again.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Inspection]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, upload: ResumableUpload) -> Received:
        """Return what is known of ``upload``, of which the caller has locked the row."""
        with self._lock:
            version, inspection = self._kept.pop(upload.id, (None, None))
        # A request whose lease has ended by itself may still write to the file.
        if upload.lease_expired or upload.owner is not None:
            return Received(None)
        if upload.stored == 0:
            return Received(Inspection(upload.filename, upload.mimetype, None))
        return Received(inspection if version == upload.version else None)

    def keep(self, upload: ResumableUpload, received: Received) -> None:
        """Keep what is known of ``upload``, which was written without an owner. Forgets those that
        were kept first if there are too many."""
        inspection = received.whole(upload.stored)
        if inspection is None or upload.done:
            return
        with self._lock:
            self._kept[upload.id] = upload.version, inspection
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)

    def forget(self, upload_id: str) -> None:
        """Drop what is known of an upload that is terminated."""
        with self._lock:
            self._kept.pop(upload_id, None)

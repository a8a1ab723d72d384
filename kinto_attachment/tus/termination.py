"""What becomes of an upload over several requests when one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import References
from kinto_attachment.storage import FileStorage, best_effort
from kinto_attachment.tus.lease import Lease, UploadUnknown
from kinto_attachment.tus.store import Unfinished, UnfinishedUploads

logger = logging.getLogger(__name__)

Short = Callable[[], AbstractContextManager[None]]
"""Makes the context of a short transaction: see ``transaction.aside()``."""

# What the same request may be answered otherwise with, later.
_MAY_HEAL = (401, 403, 423)


class UploadGone(Exception):
    """The upload has expired, or what was stored of it is not there any more."""


class FileMismatch(Exception):
    """The whole file is not what the client has announced."""


class Endings:
    """Ends uploads, or leaves them for another try."""

    def __init__(
        self, rows: UnfinishedUploads, files: FileStorage, references: References
    ) -> None:
        self._rows = rows
        self._files = files
        self._references = references

    @contextmanager
    def of(self, short: Short, lease: Lease) -> Iterator[None]:
        """Give the lease back if something fails, or end the upload if all would fail again."""
        try:
            yield
        except (FileMismatch, UploadGone, UploadUnknown):
            self.end(short, lease.upload)
            raise
        except BaseException:
            lease.give_up()
            raise

    def settle(self, short: Short, lease: Lease, request: Any, response: Any) -> None:
        """After the transaction: the upload ends with a refusal that would come again."""
        status = response.status_code
        if status < 400:
            return
        if status >= 500 or status in _MAY_HEAL:
            lease.give_up()
            return
        try:
            self.end(short, lease.upload)
        except Exception:
            # The client has its answer.
            logger.exception("An upload is left for gc.")

    def end(self, short: Short, upload: Unfinished) -> None:
        """End the upload, unless another request has it."""
        with short(), self._rows.exclusively():
            found = self._rows.locked(upload.record, upload.id)
            if found is not None:
                if found.owner != upload.owner:
                    return
                self._rows.remove(found)
        self.discard(short, upload)

    def discard(self, short: Short, upload: Unfinished) -> None:
        """Remove what is stored of an upload that has no row any more."""
        self._files.cancel(upload.state)
        if upload.name is None:
            return
        with short():
            shown = self._references.shown_by(Holder.at(upload.record))
        if shown != upload.name:
            best_effort("delete the file of an upload", self._files.delete, upload.name)

"""What becomes of an upload when a request on it fails: terminated, or left for another try."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kinto_attachment.attachments.references import References
from kinto_attachment.database.transactions import OwnTransaction
from kinto_attachment.errors import (
    ExpiredUpload,
    ExtensionNotAllowed,
    FileMismatch,
    FileTooLarge,
    UnknownUpload,
    status_of,
)
from kinto_attachment.storage import FileStorage
from kinto_attachment.tus.lease import Lease
from kinto_attachment.tus.store import ResumableUpload, UploadStore

logger = logging.getLogger(__name__)

# Refusals while bytes come in after which no other try can succeed.
_FINAL = (ExpiredUpload, ExtensionNotAllowed, FileMismatch, FileTooLarge, UnknownUpload)
# Statuses after which the same request may still succeed. So may it after any 5xx.
_MAY_PASS = (401, 403, 409, 423)


class Termination:
    """Terminates uploads."""

    def __init__(
        self, store: UploadStore, files: FileStorage, references: Callable[[], References]
    ) -> None:
        """``references()`` makes those of the current transaction."""
        self._store = store
        self._files = files
        self._references = references

    @contextmanager
    def while_receiving(self, own_transaction: OwnTransaction, lease: Lease) -> Iterator[None]:
        """On an error, terminate the upload if no other try can succeed; else release the lease,
        since what has arrived stays."""
        try:
            yield
        except _FINAL:
            self.terminate(own_transaction, lease.upload)
            raise
        except BaseException:
            lease.give_up()
            raise

    def after_refusal(
        self, own_transaction: OwnTransaction, lease: Lease, error: BaseException
    ) -> None:
        """Terminate an upload whose whole file was refused with ``error``, or release the lease
        where another try may succeed. Never raises."""
        status = status_of(error)
        if status >= 500 or status in _MAY_PASS:
            lease.give_up()
            return
        try:
            self.terminate(own_transaction, lease.upload)
        except Exception:
            logger.exception("An upload is left for gc.")

    def terminate(self, own_transaction: OwnTransaction, upload: ResumableUpload) -> None:
        """Delete the upload and what is stored of it, unless another request has the lease."""
        with own_transaction(), self._store.exclusive():
            found = self._store.locked(upload.record, upload.id)
            if found is not None:
                if found.owner != upload.owner:
                    return
                self._store.remove(found)
        self.discard(own_transaction, upload)

    def discard(self, own_transaction: OwnTransaction, upload: ResumableUpload) -> None:
        """Delete what is stored of an upload without a row, but no file that a record
        references."""
        self._files.cancel(upload.state)
        if upload.name is not None:
            with own_transaction():
                self._references().give_up(upload.name)

"""The right to write to an upload: one request at a time has it, across processes and nodes.

A lease is renewed while bytes come in. It ends by itself soon after its process or client is
gone, so nothing stays locked for ever; a request that has lost it stops before the next byte.
The clocks of nodes should not differ by more than a few seconds.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

from kinto.core.storage.exceptions import BackendError
from kinto.core.utils import msec_time

from kinto_attachment.database.transactions import OwnTransaction
from kinto_attachment.errors import UnknownUpload, UploadLocked
from kinto_attachment.tus.store import ResumableUpload, UploadStore

logger = logging.getLogger(__name__)

# tus-js-client gives up 9 seconds after the connection was lost, unless configured otherwise.
LEASE_SECONDS = 7
_RENEW_SECONDS = 2


class Lease:
    """The lease that this request holds; ``upload`` is the row as it has written it last.

    Each method is a transaction of its own.
    """

    def __init__(
        self, store: UploadStore, own_transaction: OwnTransaction, upload: ResumableUpload
    ) -> None:
        """``upload`` is locked, and nobody else's: see ``check_unlocked()``."""
        self._store = store
        self._own_transaction = own_transaction
        expired = upload.lease_expired or upload.owner is not None
        self.upload = replace(upload, owner=str(uuid4()), lease_expired=expired)
        self.released: ResumableUpload | None = None
        """The row as it was released, once that is committed."""

    def acquire(self) -> None:
        """Write the lease, in the current transaction."""
        self._write()

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return time.monotonic() > self._renewed + _RENEW_SECONDS

    def renew(self) -> None:
        """Extend the lease if it is time to. Raises ``UnknownUpload``, ``UploadLocked``."""
        if self.is_due:
            with self._own_transaction(), self._store.exclusive():
                check_owner(self._store, self.upload)
                self._write()

    def save(self, **changes: Any) -> None:
        """Change the row durably, and extend the lease. Raises as ``renew()`` does."""
        with self._own_transaction(), self._store.exclusive():
            check_owner(self._store, self.upload)
            self._write(**changes)

    def release(self, **changes: Any) -> None:
        """Change the row, and let other requests write. Raises as ``renew()`` does."""
        upload = replace(self.upload, **changes, owner=None, leased_until=0)
        with self._own_transaction(), self._store.exclusive():
            check_owner(self._store, self.upload)
            upload = self._store.save(upload)
        # Only now: if the answer to COMMIT was lost, another request may have gone on.
        self.upload = self.released = upload

    def give_up(self) -> None:
        """Let other requests write, if that is possible. Never raises: a lease ends by itself."""
        try:
            self.release()
        except (UnknownUpload, UploadLocked):
            pass
        except BackendError:
            logger.warning("A lease could not be released.", exc_info=True)

    def _write(self, **changes: Any) -> None:
        self._renewed = time.monotonic()
        until = msec_time() + LEASE_SECONDS * 1000
        self.upload = replace(self.upload, **changes, leased_until=until)
        # A lost lease makes this request stop, no more: it need not be durable.
        self._store.save(self.upload, durably=bool(changes))


def check_unlocked(upload: ResumableUpload) -> None:
    """Raise ``UploadLocked`` if a request holds the lease of ``upload``."""
    remaining = upload.leased_until - msec_time()
    if remaining > 0:
        raise UploadLocked(seconds=1 + remaining // 1000)


def check_owner(store: UploadStore, upload: ResumableUpload) -> None:
    """Lock the row, and make sure that it is as its owner has written it.

    Raises ``UnknownUpload``, ``UploadLocked``.
    """
    found = store.locked(upload.record, upload.id)
    if found is None:
        raise UnknownUpload()
    if found.owner != upload.owner:
        raise UploadLocked(seconds=1)

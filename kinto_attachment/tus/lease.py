"""Who may write to an upload: one request at a time, across processes and nodes.

A lease is renewed while bytes come in. It ends by itself soon after the process or its client is
gone, so that nothing is locked for ever; who has lost it to another stops before the next byte.
Clocks of nodes should not differ by more than a few seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from kinto.core.storage.exceptions import BackendError
from kinto.core.utils import msec_time

from kinto_attachment.tus.store import Unfinished, UnfinishedUploads

logger = logging.getLogger(__name__)

# tus-js-client gives up 9 seconds after the connection was lost, unless told otherwise.
LEASE_SECONDS = 7
_RENEW_SECONDS = 2


class UploadUnknown(Exception):
    """There is no such upload, or there is none any more."""


class UploadBusy(Exception):
    """Another request writes to the upload; the lease may end in ``seconds``."""

    def __init__(self, seconds: int = 1) -> None:
        super().__init__("Another request is writing to this upload, please retry later.")
        self.seconds = seconds


class Lease:
    """The right to write to ``upload``, which is the row as this request has written it.

    Each method is a transaction of its own, for which ``short`` makes the context.
    """

    def __init__(
        self,
        rows: UnfinishedUploads,
        short: Callable[[], AbstractContextManager[None]],
        record: str,
        upload_id: str,
        check: Callable[[Unfinished], Unfinished],
    ) -> None:
        """Take it, if ``check(upload)`` does not raise; what it returns is written.

        Raises ``UploadUnknown``, ``UploadBusy``.
        """
        self._rows = rows
        self._short = short
        self.owner = str(uuid4())
        with short(), rows.exclusively():
            found = rows.locked(record, upload_id)
            if found is None:
                raise UploadUnknown()
            rest = found.leased_until - msec_time()
            if rest > 0:
                raise UploadBusy(1 + rest // 1000)
            self.upload = self._leased(check(found), owner=self.owner)
            # Nothing has been told to the client yet. Without its lease, we stop.
            rows.save(self.upload, durably=False)

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return time.monotonic() > self._renewed + _RENEW_SECONDS

    def save(self, **changes: Any) -> None:
        """Change the row, and renew the lease. Raises ``UploadUnknown``, ``UploadBusy``."""
        with self._short(), self._rows.exclusively():
            check_lease(self._rows, self.upload)
            self.upload = self._leased(self.upload, **changes)
            self._rows.save(self.upload, durably=bool(changes))

    def release(self, **changes: Any) -> None:
        """Change the row, and let others write. Raises ``UploadUnknown``, ``UploadBusy``."""
        with self._short(), self._rows.exclusively():
            check_lease(self._rows, self.upload)
            self.upload = replace(self.upload, **changes, owner=None, leased_until=0)
            self._rows.save(self.upload)

    def give_up(self) -> None:
        """Let others write, if that is still ours to say. Never raises: it ends by itself."""
        try:
            self.release()
        except (UploadUnknown, UploadBusy):
            pass
        except BackendError:
            logger.warning("A lease could not be given back.", exc_info=True)

    def _leased(self, upload: Unfinished, **changes: Any) -> Unfinished:
        self._renewed = time.monotonic()
        return replace(upload, **changes, leased_until=msec_time() + LEASE_SECONDS * 1000)


def check_lease(rows: UnfinishedUploads, upload: Unfinished) -> None:
    """Lock the row, and make sure that it is as its owner has left it.

    Raises ``UploadUnknown``, ``UploadBusy``.
    """
    found = rows.locked(upload.record, upload.id)
    if found is None:
        raise UploadUnknown()
    if found.owner != upload.owner:
        raise UploadBusy()

"""A resumable upload that is not finished, and what was kept of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from tests.support.servers.gcs.bucket import StoredObject
from tests.support.servers.gcs.content import Blob, Content
from tests.support.servers.gcs.errors import GcsError, unavailable

GRANULE = 256 * 1024
"""Every chunk but the last is a multiple of it."""


class Session:
    """A resumable upload. Its name is fixed, and what was kept never gets less."""

    def __init__(
        self,
        bucket: str,
        name: str,
        upload_id: str,
        properties: dict[str, Any],
        acl: str | None,
        conditions: Mapping[str, str],
        hashes: Mapping[str, str],
    ) -> None:
        self.bucket = bucket
        self.name = name
        self.upload_id = upload_id
        self.properties = properties
        self.acl = acl
        self.conditions = conditions
        self.hashes = dict(hashes)
        self.total: int | None = None
        self.refusal: GcsError | None = None
        """What every request is answered from now on."""
        self.result: StoredObject | None = None
        self._blob = Blob()
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """How many bytes have arrived and are kept."""
        return self._blob.size

    @property
    def content(self) -> Content:
        return Content([self._blob])

    @property
    def is_unfinished(self) -> bool:
        return self.refusal is None and self.result is None

    def append(self, offset: int, data: bytes) -> None:
        """Keep ``data``, but what of it was kept before."""
        with self._lock:
            known = self.kept - offset
            if data and known < 0:
                raise unavailable()
            if self.is_unfinished and known < len(data):
                self._blob.append(data[known:])

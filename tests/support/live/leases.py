"""A Pyramid plugin for servers that are killed: what they have held of an upload is soon free, so
that nobody waits for it as long as clients do.

A lease ends as it always does, when its time is over.
"""

from __future__ import annotations

from typing import Any

from kinto_attachment.tus import lease

INCLUDES = "kinto.plugins.default_bucket kinto_attachment tests.support.live.leases"
"""The setting ``kinto.includes`` of a Kinto with it."""

_SECONDS = 2
_RENEW_SECONDS = 0.5


def includeme(config: Any) -> None:
    """To be included in a process of its own: it is for all applications there."""
    lease.LEASE_SECONDS = _SECONDS
    lease._RENEW_SECONDS = _RENEW_SECONDS

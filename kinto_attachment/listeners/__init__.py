"""Subscribers: what follows for files when records, collections and buckets change."""

from __future__ import annotations

from typing import Any

from kinto_attachment.listeners import changes, flush


def register(config: Any) -> None:
    """Subscribe to Kinto's events."""
    changes.register(config)
    flush.register(config)

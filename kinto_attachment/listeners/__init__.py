"""Subscribers: what follows for files when records, collections and buckets change."""

from __future__ import annotations

from typing import Any

from pyramid.tweens import EXCVIEW

from kinto_attachment.listeners import changes, flush


def register(config: Any) -> None:
    """Subscribe to Kinto's events, and look at the records once all subscribers have run."""
    changes.register(config)
    flush.register(config)
    config.add_tween(
        "kinto_attachment.attachments.last_look.tween",
        under=EXCVIEW,
        over="kinto.core.events.notify_resource_events_before",
    )

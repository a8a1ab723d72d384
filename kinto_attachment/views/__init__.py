"""The requests that the plugin answers."""

from __future__ import annotations

from typing import Any

from kinto_attachment.views import attachment, database, default_bucket, files, heartbeat


def register(config: Any) -> None:
    """Add the routes and views. Raises ``ConfigurationError``."""
    # First, since its path would be taken for a bucket's.
    default_bucket.register(config)
    attachment.register(config)
    files.register(config)
    heartbeat.register(config)
    database.register(config)

"""A plugin that publishes records: it says so on requests that have the header ``Publish``."""

from __future__ import annotations

from typing import Any

from pyramid.events import NewRequest


def includeme(config: Any) -> None:
    def on_new_request(event: Any) -> None:
        if "Publish" in event.request.headers:
            event.request._attachment_auto_save = True

    config.add_subscriber(on_new_request, NewRequest)

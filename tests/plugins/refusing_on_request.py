"""A plugin that refuses what a request with the header ``Refuse`` has changed."""

from __future__ import annotations

from typing import Any

from kinto.core.events import ResourceChanged
from pyramid.httpexceptions import HTTPForbidden


def includeme(config: Any) -> None:
    config.add_subscriber(_refuse, ResourceChanged)


def _refuse(event: Any) -> None:
    if "Refuse" in event.request.headers:
        raise HTTPForbidden

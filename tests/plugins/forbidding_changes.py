"""A plugin that lets nobody change records."""

from __future__ import annotations

from typing import Any

from kinto.core.events import ResourceChanged
from pyramid.httpexceptions import HTTPForbidden


def includeme(config: Any) -> None:
    config.add_subscriber(_refuse, ResourceChanged)


def _refuse(event: Any) -> None:
    raise HTTPForbidden

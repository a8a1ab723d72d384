"""A plugin that lets nobody create or change records."""

from __future__ import annotations

from typing import Any

from kinto.core.events import ResourceChanged
from pyramid.httpexceptions import HTTPBadRequest


def includeme(config: Any) -> None:
    config.add_subscriber(_refuse, ResourceChanged, for_resources=("record",))


def _refuse(event: Any) -> None:
    raise HTTPBadRequest

"""A listener that remembers what it is told, in the registry: ``spied``, ``spied_after``."""

from __future__ import annotations

from typing import Any

from kinto.core.events import AfterResourceChanged
from kinto.core.listeners import ListenerBase


class Spy(ListenerBase):
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def __call__(self, event: Any) -> None:
        if event.payload["resource_name"] == "record":
            self._told.append(event)


def load_from_config(config: Any, prefix: str = "") -> Spy:
    """What Kinto calls for ``event_listeners.spy.use``."""
    config.registry.spied = []
    config.registry.spied_after = []
    config.add_subscriber(Spy(config.registry.spied_after), AfterResourceChanged)
    return Spy(config.registry.spied)

"""A metrics service that fails for all that the attachments report."""

from __future__ import annotations

from typing import Any

from kinto.core.metrics import IMetricsService, NoOpMetricsService


class Metrics(NoOpMetricsService):
    def timer(self, key: str, value: Any = None, labels: Any = ()) -> Any:
        return super().timer(key) if _passes(key) else None

    def observe(self, key: str, value: Any, labels: Any = ()) -> None:
        _passes(key)

    def count(self, key: str, count: int = 1, unique: Any = None) -> None:
        _passes(key)


def _passes(key: str) -> bool:
    if key.startswith("attachments."):
        raise ConnectionError("The metrics are down.")
    return True


def includeme(config: Any) -> None:
    config.registry.registerUtility(Metrics(), IMetricsService)

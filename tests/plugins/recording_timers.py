"""A metrics service that remembers what is timed, in the registry: ``timed``."""

from __future__ import annotations

from typing import Any

from kinto.core.metrics import IMetricsService, NoOpMetricsService, NoOpTimer


class Metrics(NoOpMetricsService):
    def __init__(self) -> None:
        self.timed: set[tuple[str, str]] = set()

    def timer(self, key: str, value: Any = None, labels: Any = ()) -> NoOpTimer:
        self.timed.update((key, label) for name, label in labels if name == "method")
        return super().timer(key)


def includeme(config: Any) -> None:
    metrics = Metrics()
    config.registry.registerUtility(metrics, IMetricsService)
    config.registry.timed = metrics.timed

"""What the plugin counts and times, and Kinto's metrics service, which it reports that to.

The service has counters, times and observed values; Kinto's plugins ``prometheus`` and ``statsd``
implement it. Every label has a closed set of values. https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """One metric: ``kind`` is ``counter``, ``seconds`` or ``observed``.

    Prometheus gets ``attachments.x`` as ``kinto_attachments_x``, a counter with ``_total`` at its
    end; times as a histogram, and observed values as a summary.
    """

    key: str
    kind: str = "counter"
    label: str | None = None
    values: tuple[str, ...] = ()
    """Those of the label, unless another module has them."""


RECEIVED_BYTES = Metric("attachments.received_bytes")
"""Bytes of files that went into the storage."""
SENT_BYTES = Metric("attachments.sent_bytes")
"""Bytes of files that this process has sent."""
UPLOADS_STARTED = Metric("attachments.uploads_started")
"""Requests that send a file, or create or continue a resumable upload. Those that have started and
not ended are in flight: there are no gauges."""
UPLOADS_ENDED = Metric(
    "attachments.uploads_ended",
    label="outcome",
    values=("attached", "partial", "refused", "failed"),
)
REFUSALS = Metric("attachments.refusals", label="reason")
"""Refusals of ``errors.py``, which has the reasons."""
FILES_DELETED = Metric("attachments.files_deleted")
DELETIONS_FAILED = Metric("attachments.deletions_failed")
"""Files that could not be deleted, and are left for gc."""
RETRIES = Metric("attachments.retries", label="of", values=("database", "storage"))
STORAGE_SECONDS = Metric("attachments.storage_seconds", "seconds", "operation")
RESUMABLE_UPLOADS = Metric("attachments.resumable_uploads", "observed")
"""Resumable uploads that are neither done nor expired, in all of the site."""

METRICS = (
    RECEIVED_BYTES,
    SENT_BYTES,
    UPLOADS_STARTED,
    UPLOADS_ENDED,
    REFUSALS,
    FILES_DELETED,
    DELETIONS_FAILED,
    RETRIES,
    STORAGE_SECONDS,
    RESUMABLE_UPLOADS,
)


class Metrics:
    """Reports to Kinto's service once it is connected. Never raises: a service that fails is
    logged, once for each metric."""

    def __init__(self) -> None:
        self._service: Any = None
        self._has_labels = True
        self._failed: set[Metric] = set()

    def connect(self, service: Any) -> None:
        """Report to ``service``, unless it does nothing. Call it once the application is made:
        the plugin of the service may be included after this one."""
        # Kinto must have read its settings before its services are imported.
        from kinto.core.metrics import NoOpMetricsService
        from kinto.plugins.statsd import StatsDService

        if service is not None and type(service) is not NoOpMetricsService:
            self._service = service
            self._has_labels = not isinstance(service, StatsDService)
            for metric in METRICS:
                if metric.kind == "counter":
                    self.start(metric, metric.values)

    @property
    def is_enabled(self) -> bool:
        """Whether anybody wants to know."""
        return self._service is not None

    def start(self, metric: Metric, values: Iterable[str]) -> None:
        """Report that nothing has happened yet, for these values of the label: else the first
        event is no increase.
        https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics

        Kinto also makes a metric when it is first used, and may fail where two threads do that.
        """
        for value in values if metric.label else (None,):
            if metric.kind == "seconds":
                self._report(metric, "timer", metric.key, None, [(metric.label, value)])
            else:
                self.count(metric, 0, value)

    def count(self, metric: Metric, number: int = 1, value: str | None = None) -> None:
        """Add ``number`` to a counter; ``value`` is that of its label."""
        if value is None:
            self._report(metric, "count", metric.key, number)
        elif self._has_labels:
            self._report(metric, "count", metric.key, number, [(metric.label, value)])
        else:
            # With a label, Kinto's would count different values (StatsD's "sets"), not events.
            self._report(metric, "count", f"{metric.key}.{metric.label}.{value}", number)

    def time(self, metric: Metric, seconds: float, value: str) -> None:
        """Report how long something took; ``value`` is that of the metric's label."""
        self._report(metric, "timer", metric.key, seconds, [(metric.label, value)])

    def observe(self, metric: Metric, number: int) -> None:
        """Report how many there are now."""
        self._report(metric, "observe", metric.key, number)

    # What the storage's observer is told.

    def took(self, operation: str, seconds: float) -> None:
        self.time(STORAGE_SECONDS, seconds, operation)

    def retried(self) -> None:
        self.count(RETRIES, value="storage")

    def received(self, size: int) -> None:
        self.count(RECEIVED_BYTES, size)

    def deleted(self, *, failed: bool) -> None:
        self.count(DELETIONS_FAILED if failed else FILES_DELETED)

    def _report(self, metric: Metric, method: str, *arguments: Any) -> None:
        if self._service is None:
            return
        try:
            getattr(self._service, method)(*arguments)
        except Exception:
            if metric not in self._failed:
                self._failed.add(metric)
                logger.exception("The metrics service fails for %s.", metric.key)

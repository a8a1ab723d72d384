"""The check of ``__heartbeat__``: whether files can be stored, and who may not ask for it."""

from __future__ import annotations

import logging
from typing import Any

import transaction
from kinto.core.storage.exceptions import BackendError
from pyramid.events import ContextFound
from pyramid.settings import asbool

from kinto_attachment.database.transactions import abort
from kinto_attachment.errors import OperatorsOnly, answered
from kinto_attachment.metrics import RESUMABLE_UPLOADS
from kinto_attachment.storage import FileStorage, StorageUnavailable
from kinto_attachment.tus.store import UploadStore

logger = logging.getLogger(__name__)

# Kinto's heartbeat, and the metrics of its plugin prometheus.
_OPERATORS_ROUTES = ("heartbeat", "prometheus_metrics")


def register(config: Any) -> None:
    """Keep operators' endpoints out of batches: each heartbeat writes a file."""
    config.add_subscriber(_refuse_in_batch, ContextFound)


@answered()
def _refuse_in_batch(event: Any) -> None:
    request = event.request
    is_in_batch = getattr(request, "parent", None) is not None
    if is_in_batch and request.matched_route and request.matched_route.name in _OPERATORS_ROUTES:
        raise OperatorsOnly()


def heartbeat(request: Any) -> bool:
    """Try whether files can be stored. A read-only server passes without."""
    if asbool(request.registry.settings["readonly"]):
        return True
    _observe_uploads(request.registry)
    files: FileStorage = request.registry.attachment_files
    try:
        files.check()
    except StorageUnavailable:
        logger.exception("The file storage does not work.")
        return False
    return True


def _observe_uploads(registry: Any) -> None:
    # Here, because Kinto waits for no heartbeat for long: metrics are read while the database is
    # down, too.
    if not registry.attachment_metrics.is_enabled:
        return
    try:
        count = UploadStore(registry.storage).count_unfinished()
    except BackendError:
        # Kinto has logged it, and its own heartbeat fails.
        return
    finally:
        # Kinto ends it after the storage has answered: while that hangs, each heartbeat would hold
        # a connection to the database.
        abort(transaction.manager)
    if count is not None:
        registry.attachment_metrics.observe(RESUMABLE_UPLOADS, count)

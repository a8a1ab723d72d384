"""Ask the records, last of all, before the files go that a transaction gives up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.references import References
from kinto_attachment.errors import answered


def last_look(request: Any) -> None:
    """Keep the files that records still reference, whoever has written them; then count them.

    Costs nothing where the current transaction gives up no file, and changes nothing that has a
    quota. Raises ``QuotaExceeded``, and Kinto's ``BackendError``.
    """
    changes = FileChanges.pending(request.registry.attachment_files)
    if changes is not None:
        registry = request.registry
        references = References(registry.storage, registry.attachment_settings, changes)
        references.keep_referenced()
        references.settle_usage()


def tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Take the last look once all subscribers of ``ResourceChanged`` have run.

    Kinto commits what a returned 4xx has written, so the status does not matter.
    """

    def handle(request: Any) -> Any:
        response = handler(request)
        with answered():
            last_look(request)
        return response

    return handle

"""A database that fails when the request's transaction ends, which is after Kinto has answered."""

from __future__ import annotations

from typing import Any

from kinto.core.storage.exceptions import BackendError

from kinto_attachment.database import UNAVAILABLE


def register(config: Any) -> None:
    """Have a lost connection answered with 503 in place of 500, whichever request finds it.

    Kinto's storage turns it into a ``BackendError``. pyramid_tm commits, or rolls back, without.
    """
    for error in UNAVAILABLE:
        config.add_exception_view(_unavailable, context=error)


def _unavailable(error: Exception, request: Any) -> Any:
    known = BackendError(original=error)
    return request.invoke_exception_view((BackendError, known, error.__traceback__))

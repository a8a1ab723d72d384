"""Write and commit before the request is answered; try again what can pass.

After the last byte of an upload the transaction is short, and the file is stored. So a conflict
with another write, a deadlock, or a connection that the database has closed is not the client's to
repeat. https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kinto.core.storage.exceptions import BackendError, IntegrityError

from kinto_attachment.database import SQL_ERRORS
from kinto_attachment.database.objects import is_transactional, statement
from kinto_attachment.database.transactions import (
    CarriedOver,
    abort,
    has_own_transaction,
    outermost,
    own_transaction,
)
from kinto_attachment.metrics import RETRIES

_Result = TypeVar("_Result")

TRIES = 10
_PAUSE_SECONDS = 0.005
"""Doubled after each try: how long a pause may be."""
_DOUBLINGS = 7
"""How often it is doubled at most."""

# serialization_failure, deadlock_detected
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = ("40001", "40P01")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(:uri, 0))"


class OutcomeUnknown(BackendError):
    """There was an error while the database committed, and it cannot be asked."""


def commit(
    request: Any,
    write: Callable[[], _Result],
    *,
    bucket_uri: str,
    before_commit: Callable[[Any], None],
    has_committed: Callable[[], bool],
) -> _Result:
    """Call ``write()``, notify what it has changed, and commit. Return what it returns.

    So whoever calls it knows what became of the write. ``ResourceChanged`` is sent here instead
    of by Kinto's tween, ``AfterResourceChanged`` by Kinto's hook on the transaction.
    ``before_commit(request)`` is called once all subscribers have run. In a batch and without
    pyramid_tm only ``write()`` is called; the rest happens when the batch ends.

    After an error that can pass, all of it is repeated in a new transaction, on the request as it
    was. From the second try on, an advisory lock serialises the requests of a bucket that try
    again. Where nothing rolls back, there is one try. After any error of a commit,
    ``has_committed()`` asks the database, in a transaction of its own: the answer to COMMIT may
    be lost.
    Raises what ``write()``, subscribers and the database raise; nothing is written then. Raises
    ``OutcomeUnknown`` if the database cannot be asked.
    """
    if not has_own_transaction(request):
        return write()
    manager, sent, kinto_storage = request.tm, outermost(request), request.registry.storage
    carried, snapshot = CarriedOver(manager.get()), _Snapshot(request, sent)
    rolls_back = is_transactional(kinto_storage)
    last = TRIES if rolls_back else 1
    # The request as it was before a commit that may have got through.
    written: _Snapshot | None = None
    number = 1
    while True:
        try:
            if number > 1:
                with kinto_storage.client.connect() as connection:
                    connection.execute(statement(_LOCK), {"uri": bucket_uri})
            result = write()
            for event in sent.get_resource_events():
                sent.registry.notify(event)
            before_commit(sent)
            written = _Snapshot(request, sent)
            manager.commit()
            return result
        except BaseException as error:
            abort(manager)
            # From then on, ask after each error: a commit may get through after its connection was
            # lost. Or the error was not the database's: of another data manager, say, or of a
            # signal that ends the process.
            if written is not None and rolls_back and _ask(manager, has_committed, error):
                written.restore()
                return result
            if not may_pass(error):
                raise
            if number == last:
                raise _as_backend_error(error) from error
        finally:
            # Kinto's tween would notify them again.
            sent.bound_data.pop("resource_events", None)
            begun = manager.begin()
        sent.registry.attachment_metrics.count(RETRIES, value="database")
        time.sleep(random.uniform(0, _PAUSE_SECONDS * 2 ** min(number, _DOUBLINGS)))  # noqa: S311
        number += 1
        snapshot.restore()
        carried.onto(begun)


def may_pass(error: BaseException) -> bool:
    """Whether the same write may succeed in a new transaction."""
    if isinstance(error, IntegrityError):
        # "Integrity constraint violated, please retry": two writes in one millisecond.
        return True
    original = getattr(error, "orig", getattr(getattr(error, "original", None), "orig", None))
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state in _PASSING or _is_disconnect(error)


class _Snapshot:
    """What a try changes in the request, to be restored."""

    def __init__(self, request: Any, sent: Any) -> None:
        self._response, self._bound_data = request.response, sent.bound_data
        self._status, self._headers = request.response.status, list(request.response.headerlist)
        self._data = _copied(sent.bound_data)

    def restore(self) -> None:
        self._response.status, self._response.headerlist = self._status, list(self._headers)
        self._bound_data.clear()
        self._bound_data.update(_copied(self._data))


def _copied(data: dict[str, Any]) -> dict[str, Any]:
    return {key: {**value} if isinstance(value, dict) else value for key, value in data.items()}


def _is_disconnect(error: BaseException) -> bool:
    """Whether the connection was lost, to judge by SQLAlchemy's error or Kinto's around it."""
    errors = (error, getattr(error, "original", None))
    return any(getattr(each, "connection_invalidated", False) for each in errors)


def _ask(manager: Any, has_committed: Callable[[], bool], error: BaseException) -> bool:
    try:
        with own_transaction(manager):
            return has_committed()
    except BackendError:
        raise OutcomeUnknown(original=error) from error


def _as_backend_error(error: BaseException) -> BaseException:
    """What Kinto answers with a 409 or a 503 instead of a 500."""
    return BackendError(original=error) if isinstance(error, SQL_ERRORS) else error

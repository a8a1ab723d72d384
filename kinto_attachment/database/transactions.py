"""The transaction of a request: ended while the body comes in, committed before the answer.

A request has one transaction, from pyramid_tm; the requests of a batch share it.
https://docs.pylonsproject.org/projects/pyramid-tm/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from kinto.core.storage.exceptions import BackendError

from kinto_attachment.database import SQL_ERRORS

OwnTransaction = Callable[[], AbstractContextManager[None]]
"""Makes the context of a transaction that commits at the end of the block."""


def is_in_batch(request: Any) -> bool:
    """Whether the request is one of several, which share a transaction."""
    return getattr(_as_sent(request), "parent", None) is not None


def outermost(request: Any) -> Any:
    """Return the request that the client has sent, be it a batch."""
    while getattr(request, "parent", None) is not None:
        request = request.parent
    return request


def release(request: Any) -> None:
    """End the request's read transaction and begin another one: while the body comes in, it holds
    no lock and no connection.

    See ``suspended()``.
    """
    with suspended(request):
        pass


@contextmanager
def suspended(request: Any) -> Iterator[OwnTransaction]:
    """End the request's read transaction, run the block, and begin another transaction.

    Yields what makes transactions for the block, which has none. Hooks on the first one are
    carried over, Kinto's own among them. Nothing must have been written yet. In a batch, where
    others may have written, and without pyramid_tm the request's transaction just goes on.
    Raises Kinto's ``BackendError`` where the database does not commit.
    """
    if not _has_own_transaction(request):
        yield nullcontext
        return
    manager = request.tm
    ended = manager.get()
    before_commit = list(ended.getBeforeCommitHooks())
    after_commit = list(ended.getAfterCommitHooks())
    user, description = ended.user, ended.description
    # A connection that was lost in the meantime is not needed any more.
    with suppress(*SQL_ERRORS):
        manager.abort()
    try:
        yield partial(_own_transaction, manager)
    finally:
        begun = manager.begin()
        begun.user, begun.description = user, description
        for hook, args, kws in before_commit:
            begun.addBeforeCommitHook(hook, args, kws)
        for hook, args, kws in after_commit:
            begun.addAfterCommitHook(hook, args, kws)


@contextmanager
def committed(request: Any, before_commit: Callable[[Any], None]) -> Iterator[None]:
    """Run the block, notify what it has changed, and commit: before the response is made.

    So whoever calls it knows what became of the write. ``ResourceChanged`` is sent here instead
    of by Kinto's tween, ``AfterResourceChanged`` by Kinto's hook on the transaction.
    ``before_commit(request)`` is called once all subscribers have run. In a batch and without
    pyramid_tm only the block runs; the rest happens when the batch ends.
    Raises what subscribers and the database raise; nothing is written then.
    """
    if not _has_own_transaction(request):
        yield
        return
    manager, sent = request.tm, outermost(request)
    try:
        yield
        for event in sent.get_resource_events():
            sent.registry.notify(event)
        before_commit(sent)
        manager.commit()
    except BaseException:
        _abort(manager)
        raise
    finally:
        # Kinto's tween would notify them again.
        sent.bound_data.pop("resource_events", None)
        manager.begin()


@contextmanager
def _own_transaction(manager: Any) -> Iterator[None]:
    manager.begin()
    try:
        yield
        manager.commit()
    except SQL_ERRORS as error:
        _abort(manager)
        raise BackendError(original=error) from error
    except BaseException:
        _abort(manager)
        raise


def _abort(manager: Any) -> None:
    # The error that led here is the one to report.
    with suppress(Exception):
        manager.abort()


def _has_own_transaction(request: Any) -> bool:
    sent = _as_sent(request)
    return not is_in_batch(request) and bool(sent.environ.get("tm.active"))


def _as_sent(request: Any) -> Any:
    """The request as the client has sent it, maybe through the alias of the default bucket."""
    return request.parent if getattr(request, "through_alias", False) else request

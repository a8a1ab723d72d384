"""The transaction of a request: ended while a body comes in, and begun again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from kinto.core.storage.exceptions import BackendError

from kinto_attachment.database import SQL_ERRORS


def is_in_batch(request: Any) -> bool:
    """Whether the request is one of several, which share a transaction."""
    return getattr(_sent(request), "parent", None) is not None


def release(request: Any) -> None:
    """End the read transaction of ``request``, so that it holds no lock and no connection while
    its body comes in, and begin a new one in its place.

    Hooks that others set on the first one are carried over, Kinto's own among them
    (``AfterResourceChanged`` is sent from there). Nothing must have been written yet. Does
    nothing where others may have written: in a batch; and where there are no transactions.
    """
    with aside(request):
        pass


@contextmanager
def aside(request: Any) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """``release()`` with a time in between: ``with aside(request) as short``, and therein
    ``with short():`` for a transaction of its own, committed at its end.

    Raises Kinto's ``BackendError`` if the database does not commit.
    """
    if is_in_batch(request) or not _sent(request).environ.get("tm.active"):
        yield nullcontext
        return
    manager = request.tm
    ended = manager.get()
    before_commit = list(ended.getBeforeCommitHooks())
    after_commit = list(ended.getAfterCommitHooks())
    user, description = ended.user, ended.description
    manager.abort()
    try:
        yield partial(short, manager)
    finally:
        begun = manager.begin()
        begun.user, begun.description = user, description
        for hook, args, kws in before_commit:
            begun.addBeforeCommitHook(hook, args, kws)
        for hook, args, kws in after_commit:
            begun.addAfterCommitHook(hook, args, kws)


@contextmanager
def short(manager: Any) -> Iterator[None]:
    """A transaction that ends with the block. Raises Kinto's ``BackendError`` if the database
    does not commit."""
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
    # The error that led here is the one to tell.
    with suppress(Exception):
        manager.abort()


def _sent(request: Any) -> Any:
    """The request as it was sent, which may have been through the default bucket's alias."""
    return request.parent if getattr(request, "through_alias", False) else request


def outermost(request: Any) -> Any:
    """The request that a client has sent, be it a batch."""
    while getattr(request, "parent", None) is not None:
        request = request.parent
    return request

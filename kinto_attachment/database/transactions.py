"""The transaction of a request: ended while the body comes in, and begun again.

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
    if not has_own_transaction(request):
        yield nullcontext
        return
    manager = request.tm
    carried = CarriedOver(manager.get())
    # A connection that was lost in the meantime is not needed any more.
    with suppress(*SQL_ERRORS):
        manager.abort()
    try:
        yield partial(own_transaction, manager)
    finally:
        carried.onto(manager.begin())


class CarriedOver:
    """What others have set on a transaction, for the one that takes its place."""

    def __init__(self, ended: Any) -> None:
        self._before_commit = list(ended.getBeforeCommitHooks())
        self._after_commit = list(ended.getAfterCommitHooks())
        self._user, self._description = ended.user, ended.description

    def onto(self, begun: Any) -> None:
        """Set it on a new transaction."""
        begun.user, begun.description = self._user, self._description
        for hook, args, kws in self._before_commit:
            begun.addBeforeCommitHook(hook, args, kws)
        for hook, args, kws in self._after_commit:
            begun.addAfterCommitHook(hook, args, kws)


@contextmanager
def own_transaction(manager: Any) -> Iterator[None]:
    """Run the block in a transaction that commits at its end. Raises ``BackendError``."""
    manager.begin()
    try:
        yield
        manager.commit()
    except SQL_ERRORS as error:
        abort(manager)
        raise BackendError(original=error) from error
    except BaseException:
        abort(manager)
        raise


def abort(manager: Any) -> None:
    with suppress(Exception):
        manager.abort()


def has_own_transaction(request: Any) -> bool:
    """Whether the request has a transaction of its own: no batch, and pyramid_tm is active."""
    sent = _as_sent(request)
    return not is_in_batch(request) and bool(sent.environ.get("tm.active"))


def _as_sent(request: Any) -> Any:
    """The request as the client has sent it, maybe through the alias of the default bucket."""
    return request.parent if getattr(request, "through_alias", False) else request

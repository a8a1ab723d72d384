"""Tell an observer what files and their stores do: how long it takes, and how much it is.

Replaces methods of the objects themselves, so that an unobserved storage costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, Protocol

from kinto_attachment.storage.base import FileStorage, StorageUnavailable
from kinto_attachment.storage.files import Files

_OF_STORE = ("cancel", "create", "delete", "read", "resume", "stage", "stat")
_OF_FILE = ("checkpoint", "finish", "write")
_OPENING = ("resume", "stage")

OPERATIONS = frozenset((*_OF_STORE, *_OF_FILE))
"""The names of what is timed."""


class Observer(Protocol):
    """Who wants to know. Its methods do not raise."""

    def took(self, operation: str, seconds: float) -> None:
        """An operation of a store, or of a file that is written, has returned or raised."""

    def retried(self) -> None:
        """A request to the provider is repeated."""

    def received(self, size: int) -> None:
        """So many bytes of a file went into the storage."""

    def deleted(self, *, failed: bool) -> None:
        """A file was deleted, or could not be."""


def observe(files: Files, observer: Observer) -> None:
    """Tell ``observer`` what ``files`` does from now on, and each of its stores."""
    for store in files.stores.values():
        store.watch_retries(observer.retried)
        _time(store, _OF_STORE, observer)
        _after_opening(store, lambda file: _time(file, _OF_FILE, observer))
    # Not that of the stores: a heartbeat's file is nobody's.
    _after_opening(files, lambda file: _measure(file, observer))
    _count_deleted(files, observer)


def _time(thing: Any, operations: Iterable[str], observer: Observer) -> None:
    for operation in operations:
        # A file that one request sends has no checkpoints.
        if hasattr(thing, operation):
            setattr(thing, operation, _timed(getattr(thing, operation), operation, observer))


def _timed(method: Callable[..., Any], operation: str, observer: Observer) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        started = perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            observer.took(operation, perf_counter() - started)

    return timed


def _after_opening(storage: FileStorage, prepare: Callable[[Any], None]) -> None:
    """Call ``prepare(file)`` with each file that is opened for writing."""

    def opening(method: Callable[..., Any]) -> Callable[..., Any]:
        def opened(*arguments: Any, **options: Any) -> Any:
            file = method(*arguments, **options)
            prepare(file)
            return file

        return opened

    for name in _OPENING:
        setattr(storage, name, opening(getattr(storage, name)))


def _measure(file: Any, observer: Observer) -> None:
    write = file.write

    def measured(chunk: bytes) -> None:
        write(chunk)
        observer.received(len(chunk))

    file.write = measured


def _count_deleted(files: Any, observer: Observer) -> None:
    delete_many = files.delete_many

    def counted(names: Iterable[str]) -> Iterator[tuple[str, StorageUnavailable | None]]:
        for name, error in delete_many(names):
            observer.deleted(failed=error is not None)
            yield name, error

    files.delete_many = counted

"""Batches of rows: as many as are locked, or written in one transaction, at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_SIZE = 100

_Item = TypeVar("_Item")


def batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Yield the items in lists."""
    iterator = iter(items)
    while batch := list(islice(iterator, _SIZE)):
        yield batch

"""Faults that are known: rules leave out what runs into them, until they are mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis.stateful import precondition

FAULTS = {
    "base_url": "records written under another base_url: edits are refused, files go",
    "claims": "a file goes that a record shows whose other metadata differs",
    "commands": "gc, check and repair take no other base_url than today's",
    "edits": "plain data that a plugin wrote over a file's metadata cannot be sent back",
    "folders": "a file that has the name of a folder makes uploads to it a 503",
    "gc": "a file that becomes whole while gc runs is deleted",
    "names": "a file gets the name that a deleted one had",
    "restored": "a file goes that a plugin writes back in the same transaction",
    "rolled back": "a file goes that a record shows which a plugin wrote without our hearing",
    "undone": "on memory, what a request has changed before it was refused is not followed",
}
KNOWN: set[str] = {"edits", "undone"}


def unless_known(fault: str) -> Callable[[Any], Any]:
    """Leave a rule out while the fault is known."""
    assert fault in FAULTS
    return precondition(lambda day: fault not in KNOWN)


def unless_moved(rule: Any) -> Any:
    """Leave a command out while it may meet another base URL."""
    return precondition(lambda day: not day.has_moved or "commands" not in KNOWN)(rule)

"""Patterns of names: which stored files an option means."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence


class Patterns:
    """Shell patterns, as ``name_pattern`` returns them; ``*`` stands for any characters, ``/``
    included.

    A pattern matches the files of that name, and all that are in the folder of that name:
    ``bundles`` and ``bundles/*`` mean the same.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._met = dict.fromkeys(patterns, 0)

    def matches(self, name: str) -> bool:
        """Whether one of the patterns matches."""
        met = [
            pattern
            for pattern in self._met
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")
        ]
        for pattern in met:
            self._met[pattern] += 1
        return bool(met)

    def counts(self) -> dict[str, int]:
        """Return how many names each pattern has met."""
        return {f"excluded by {pattern}": count for pattern, count in self._met.items()}


def name_pattern(text: str) -> str:
    """Return a pattern for the names of stored files, which are relative and have neither empty
    segments nor ``.``.

    Raises ``ValueError`` if no name can match it.
    """
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    if not segments or ".." in segments or "\0" in text:
        raise ValueError("should be the name of a file or a folder in the storage, or a pattern")
    return "/".join(segments)

"""The output of a command: findings as they come, then a table of counts; or all of it as JSON.

Clients and other programs choose ids, locations and names: nothing of what they wrote reaches a
terminal or a log as anything but visible text (see ``printable``).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

_Item = TypeVar("_Item")


class Report:
    """Writes text for people, or one JSON object, to ``output``; keeps no findings in memory."""

    def __init__(self, command: str, *, as_json: bool, output: TextIO | None = None) -> None:
        self._command = command
        self._json = as_json
        self._output = sys.stdout if output is None else output
        self._found = 0
        self.counts: dict[str, int] | None = None
        """The counts, once the report is closed."""
        self._only_findings = False

    def list_only(self) -> None:
        """Write findings alone, one a line, as a list to act on: in JSON as JSON Lines
        (https://jsonlines.org)."""
        self._only_findings = True

    def finding(self, sentence: str, **fields: Any) -> None:
        """Write one finding: the sentence for people, or ``fields`` as JSON."""
        if self._json and self._only_findings:
            self._write(f"{_as_json(fields)}\n")
        elif self._json:
            self._write(f"{',' if self._found else self._head()}\n{_as_json(fields)}")
        else:
            # Keeps the progress bar and the sentence apart.
            tqdm.write(printable(sentence, self._output.encoding), file=self._output)
        self._found += 1
        # Before a long time of work, and into pipes as well.
        self._output.flush()

    def close(self, counts: dict[str, int], *, ok: bool) -> None:
        """Write the counts; in JSON also whether all is well."""
        self.counts = counts
        if self._json:
            rest = _as_json({"counts": counts, "ok": ok}).removeprefix("{")
            self._write(f"{'' if self._found else self._head()}\n], {rest}\n")
            return
        if self._found:
            self._write("\n")
        shown = {printable(name, self._output.encoding): count for name, count in counts.items()}
        width = max(map(len, shown))
        for name, count in shown.items():
            self._write(f"{name:<{width}}  {count:>12,}\n")

    def _head(self) -> str:
        return f'{{"command": {json.dumps(self._command)}, "findings": ['

    def _write(self, text: str) -> None:
        self._output.write(text)


class PrintableFormatter(logging.Formatter):
    """Formats log records for a terminal, one line each but for tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def printable(text: str, encoding: str | None = None) -> str:
    """Return ``text`` with escapes (``\\x1b``, ``\\u202e``) in place of all that is not visible,
    moves the cursor or changes the direction of what follows, or is not in ``encoding``.

    That is what Unicode calls other characters or separators, but for the plain space.
    """
    visible = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    known = encoding or "utf-8"
    return visible.encode(known, "backslashreplace").decode(known)


def progress(items: Iterable[_Item], title: str, total: int | None = None) -> Iterable[_Item]:
    """Iterate over ``items``, ``total`` if that is known, with a progress bar, if standard error
    is a terminal."""
    bar: Iterable[_Item] = tqdm(items, desc=title, total=total, unit="", leave=False, disable=None)
    return bar


def _as_json(value: Any) -> str:
    # JSON leaves this one control character as it is.
    return json.dumps(value).replace("\x7f", "\\u007f")

"""What a command tells: findings as they come, a table of counts, or all of it as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

_Item = TypeVar("_Item")


class Report:
    """Writes to ``output``: text for people, or one JSON object, without keeping findings."""

    def __init__(self, command: str, *, as_json: bool, output: TextIO | None = None) -> None:
        self._json = as_json
        self._output = sys.stdout if output is None else output
        self._found = 0
        if as_json:
            self._write(f'{{"command": {json.dumps(command)}, "findings": [')

    def finding(self, sentence: str, **fields: Any) -> None:
        """Tell one thing: a sentence for people, ``fields`` for machines."""
        if self._json:
            self._write(f"{',' if self._found else ''}\n{json.dumps(fields)}")
        else:
            # What the progress bar has written must not be mixed with it.
            tqdm.write(sentence, file=self._output)
        self._found += 1

    def close(self, counts: dict[str, int], *, ok: bool) -> None:
        """Tell how many there were of what, and whether all is well."""
        if self._json:
            rest = json.dumps({"counts": counts, "ok": ok})
            self._write(f"\n], {rest.removeprefix('{')}\n")
            return
        if self._found:
            self._write("\n")
        width = max(map(len, counts))
        for name, count in counts.items():
            self._write(f"{name:<{width}}  {count:>12,}\n")

    def _write(self, text: str) -> None:
        self._output.write(text)


def progress(items: Iterable[_Item], title: str) -> Iterable[_Item]:
    """Go through ``items``, with a progress bar if standard error is a terminal."""
    bar: Iterable[_Item] = tqdm(items, desc=title, unit="", leave=False, disable=None)
    return bar

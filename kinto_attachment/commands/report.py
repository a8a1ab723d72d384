"""The output of a command: findings as they come, then a table of counts; or all of it as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

_Item = TypeVar("_Item")


class Report:
    """Writes text for people, or one JSON object, to ``output``; keeps no findings in memory."""

    def __init__(self, command: str, *, as_json: bool, output: TextIO | None = None) -> None:
        self._json = as_json
        self._output = sys.stdout if output is None else output
        self._found = 0
        if as_json:
            self._write(f'{{"command": {json.dumps(command)}, "findings": [')

    def finding(self, sentence: str, **fields: Any) -> None:
        """Write one finding: the sentence for people, or ``fields`` as JSON."""
        if self._json:
            self._write(f"{',' if self._found else ''}\n{json.dumps(fields)}")
        else:
            # Keeps the progress bar and the sentence apart.
            tqdm.write(sentence, file=self._output)
        self._found += 1

    def close(self, counts: dict[str, int], *, ok: bool) -> None:
        """Write the counts; in JSON also whether all is well."""
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
    """Iterate over ``items`` with a progress bar, if standard error is a terminal."""
    bar: Iterable[_Item] = tqdm(items, desc=title, unit="", leave=False, disable=None)
    return bar

"""What the servers' logs say of the 500s that they have answered.

Kinto itself answers 500 where the database is lost at the very COMMIT of a request, with or
without the plugin: pyramid_tm commits outside of all that would make a 503 of it. The plugin's own
requests commit earlier.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_ENTRY = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (\w+) (\S+)\s")
_KINTOS_COMMIT = re.compile(r'pyramid_tm/__init__\.py", line \d+, in _finish')
_PLUGIN = "/kinto_attachment/"


def unexpected_errors(folder: Path) -> tuple[int, Counter[str]]:
    """How many requests failed as those of a Kinto without the plugin do, and the tracebacks of
    the others with their number."""
    kintos, others = 0, Counter[str]()
    for path in sorted(folder.glob("*.log")):
        for traceback in _tracebacks(path):
            if _KINTOS_COMMIT.search(traceback) and _PLUGIN not in traceback:
                kintos += 1
            else:
                others[traceback] += 1
    return kintos, others


def _tracebacks(path: Path) -> Iterator[str]:
    """What Kinto's error view has logged, without what differs from one time to the next."""
    entry: list[str] = []
    with path.open(errors="replace") as lines:
        for line in lines:
            start = _ENTRY.match(line)
            if start is None:
                if entry:
                    entry.append(line)
                continue
            if entry:
                yield "".join(entry)
            entry = [line[start.end() :]] if start.groups() == ("ERROR", "root") else []
    if entry:
        yield "".join(entry)

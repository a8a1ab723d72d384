"""The outcome of a command's last run, for Prometheus: a command ends before anybody scrapes it.

node_exporter's textfile collector reads the file.
https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gauge:
    """A metric of a command, one value for each value of its label."""

    name: str
    label: str
    meaning: str
    of: Mapping[str, tuple[str, ...]]
    """The counts of the report that each value of the label sums up."""


LAST_RUN = "kinto_attachments_command_timestamp_seconds"
DURATION = "kinto_attachments_command_duration_seconds"
STATUS = "kinto_attachments_command_status"
_OF_ALL = {
    LAST_RUN: "When the last run of the command ended.",
    DURATION: "How long the last run of the command took.",
    STATUS: "Exit status of the command: 1 if something is wrong, 2 if it could not do its work.",
}

_ORPHANS = Gauge(
    "kinto_attachments_orphans",
    "kind",
    "Stored files that no record references: deleted by the last gc or to be deleted, or left.",
    {
        "unreferenced": ("files deleted", "files to delete"),
        "kept": ("files kept",),
        "foreign": ("files foreign",),
    },
)
_ORPHAN_BYTES = Gauge(
    "kinto_attachments_orphan_bytes",
    "kind",
    "Size of these files.",
    {
        "unreferenced": ("bytes deleted", "bytes to delete"),
        "kept": ("bytes kept",),
        "foreign": ("bytes foreign",),
    },
)
_PROBLEMS = Gauge(
    "kinto_attachments_problems",
    "problem",
    "Problems that the last check found.",
    {
        "missing": ("files missing",),
        "different": ("files that differ",),
        "unreferenced": ("files unreferenced",),
        "rows": ("rows that differ",),
        "privacy": ("files with doubtful privacy",),
        "published": ("private files for anybody",),
    },
)
GAUGES = {"check": (_PROBLEMS,), "gc": (_ORPHANS, _ORPHAN_BYTES)}
"""The metrics of each command that has some, beside those of all."""

METRICS = (*_OF_ALL, *(gauge.name for gauges in GAUGES.values() for gauge in gauges))


def write(
    path: Path, command: str, counts: Mapping[str, int] | None, status: int, started: float
) -> None:
    """Replace the file at once.

    ``counts`` are those of the report, ``None`` if the command could not do its work or only
    lists; ``started`` is in seconds since 1970. Raises ``OSError``.
    """
    ended = time.time()
    run = {LAST_RUN: ended, DURATION: ended - started, STATUS: status}
    lines = []
    for name, value in run.items():
        lines += _head(name, _OF_ALL[name])
        lines.append(f'{name}{{command="{command}"}} {value}')
    if counts is not None:
        for gauge in GAUGES[command]:
            lines += _head(gauge.name, gauge.meaning)
            lines += _samples(gauge, counts)
    # The collector reads nothing that does not end with ".prom".
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text("\n".join([*lines, ""]), encoding="utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _head(name: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]


def _samples(gauge: Gauge, counts: Mapping[str, int]) -> Iterator[str]:
    for value, titles in gauge.of.items():
        number = sum(counts.get(title, 0) for title in titles)
        yield f'{gauge.name}{{{gauge.label}="{value}"}} {number}'

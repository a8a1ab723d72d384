"""What one upload, one replacement and one plain DELETE take, as attachments add up."""

from __future__ import annotations

import json
import os
import statistics
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from benchmarks.client import KIB, Client, record, timed
from benchmarks.seeds import fill, rows_of_an_attachment
from benchmarks.servers import BACKENDS, PLAIN, RELEASED, THIS, Workbench

NAME = "growth"
COUNTS = (0, 1_000, 10_000, 100_000)
OPERATIONS = ("upload", "replace", "put", "update", "delete")
"""``put`` creates a record without a file, ``update`` writes one that is there, ``delete`` deletes
what ``put`` has created."""
PLAIN_OPERATIONS = {"upload": "put", "replace": "update"}
"""What plain Kinto does in the place of an upload."""

# The released plugin takes a second each where there are many.
_REPEATS = {THIS: 30, PLAIN: 30, RELEASED: 6}
# What a slow machine may take to put them into memory.
_SEED_SECONDS = 600.0


def measure(bench: Workbench) -> None:
    names = (*bench.plugins, PLAIN)
    templates = {name: rows_of_an_attachment(bench, name) for name in names}
    counts = (0, 1_000) if bench.quick else COUNTS
    for backend in BACKENDS:
        with ExitStack() as stack:
            # All at once, and each request goes to one after the other: what else the machine
            # does meanwhile, it does to all of them.
            subjects = [
                _Subject(bench, stack, backend, name, templates[name], count)
                for count in counts
                for name in names
            ]
            for run in bench.runs:
                _run(bench, run, subjects)


def _run(bench: Workbench, run: int, subjects: list[_Subject]) -> None:
    for repeat in range(max(_REPEATS.values())):
        # Every other time the other way round.
        for subject in subjects if repeat % 2 else reversed(subjects):
            if repeat < _REPEATS[subject.name] // (6 if bench.quick else 1):
                subject.repeat(f"{run}-{repeat}")
    for subject in subjects:
        subject.collect(bench, run)


class _Subject:
    """A server with a plugin and a number of attachments."""

    def __init__(
        self,
        bench: Workbench,
        stack: ExitStack,
        backend: str,
        name: str,
        of_one: list[list[str]],
        count: int,
    ) -> None:
        self.name = name
        self._case = {"backend": backend, "attachments": count}
        self._seconds: dict[str, list[float]] = {operation: [] for operation in OPERATIONS}
        if backend == "memory":
            template = bench.folder / f"{name}.json"
            template.write_text(json.dumps(of_one))
            settings = {
                "kinto.includes": "seeded",
                "seeds.template": str(template),
                "seeds.count": count,
            }
            self._server = stack.enter_context(
                bench.start(name, settings=settings, startup_seconds=_SEED_SECONDS)
            )
        else:
            database = bench.new_database()
            fill(bench, database, of_one, count)
            self._server = stack.enter_context(bench.start(name, database=database))
        if name != PLAIN:
            _make_files(self._server.files, count)
        self._client: Client = self._server.client()
        stack.callback(self._client.close)
        self._client.create_collection()
        for number in range(5):
            self._measure(f"warm-up-{number}", replaced="replaced")
        self._seconds = {operation: [] for operation in OPERATIONS}

    def repeat(self, name: str) -> None:
        self._measure(name, replaced="replaced")

    def collect(self, bench: Workbench, run: int) -> None:
        medians = {
            operation: statistics.median(seconds)
            for operation, seconds in self._seconds.items()
            if seconds
        }
        bench.samples.add(NAME, self.name, run, self._case, **medians)
        self._seconds = {operation: [] for operation in OPERATIONS}

    def _measure(self, name: str, replaced: str) -> None:
        client = self._client
        actions = {
            "upload": lambda: client.upload(record(f"new-{name}"), KIB),
            "replace": lambda: client.upload(record(replaced), KIB),
            "put": lambda: client.request("PUT", record(f"plain-{name}"), {"data": {"a": 1}}),
            "update": lambda: client.request("PUT", record("updated"), {"data": {"a": name}}),
            "delete": lambda: client.request("DELETE", record(f"plain-{name}")),
        }
        for operation, action in actions.items():
            if self.name != PLAIN or operation not in PLAIN_OPERATIONS:
                self._seconds[operation].append(timed(action))


def _make_files(folder: Path, count: int) -> None:
    """A folder gets slower, too: as many files, though empty ones."""
    for _ in range(count):
        os.close(os.open(folder / f"{uuid4()}.bin", os.O_CREAT | os.O_WRONLY))

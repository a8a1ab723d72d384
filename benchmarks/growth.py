"""What one upload, one replacement and one plain DELETE take, as attachments add up."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.client import KIB, record
from benchmarks.seeds import Subject, rows_of_an_attachment
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


def measure(bench: Workbench) -> None:
    names = (*bench.plugins, PLAIN)
    templates = {name: rows_of_an_attachment(bench, name) for name in names}
    counts = (0, 1_000) if bench.quick else COUNTS
    for backend in BACKENDS:
        with ExitStack() as stack:
            # All at once, and each request goes to one after the other: what else the machine
            # does meanwhile, it does to all of them.
            subjects = [
                Subject(bench, stack, backend, name, templates[name], count)
                for count in counts
                for name in names
            ]
            for subject in subjects:
                for number in range(5):
                    _repeat(subject, f"warm-up-{number}")
                subject.take()
            for run in bench.runs:
                _run(bench, run, subjects)


def _run(bench: Workbench, run: int, subjects: list[Subject]) -> None:
    for repeat in range(max(_REPEATS.values())):
        # Every other time the other way round.
        for subject in subjects if repeat % 2 else reversed(subjects):
            if repeat < _REPEATS[subject.name] // (6 if bench.quick else 1):
                _repeat(subject, f"{run}-{repeat}")
    for subject in subjects:
        bench.samples.add(NAME, subject.name, run, subject.case, **subject.take())


def _repeat(subject: Subject, name: str) -> None:
    client = subject.client
    actions = {
        "upload": lambda: client.upload(record(f"new-{name}"), KIB),
        "replace": lambda: client.upload(record("replaced"), KIB),
        "put": lambda: client.request("PUT", record(f"plain-{name}"), {"data": {"a": 1}}),
        "update": lambda: client.request("PUT", record("updated"), {"data": {"a": name}}),
        "delete": lambda: client.request("DELETE", record(f"plain-{name}")),
    }
    for operation, action in actions.items():
        if subject.name != PLAIN or operation not in PLAIN_OPERATIONS:
            subject.time(operation, action)

"""What a DELETE takes for the last look: which records still reference the files that go?"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.client import KIB, record
from benchmarks.seeds import Subject, rows_of_an_attachment
from benchmarks.servers import BACKENDS, PLAIN, THIS, Workbench

NAME = "last_look"
COUNTS = (0, 10_000, 100_000)
PLURAL = 100
"""Records that one request deletes."""
DELETE, DELETE_MANY, PUT = "DELETE", f"DELETE of {PLURAL}", "PUT"
FILES, LOOK = " with files", ": last look"
"""What ends in ``LOOK`` is a part of a request, measured in the server. The PUT has no files."""
OPERATIONS = (
    *(DELETE, DELETE + FILES, DELETE + LOOK),
    *(DELETE_MANY, DELETE_MANY + FILES, DELETE_MANY + LOOK),
    *(PUT, PUT + LOOK),
)

_REPEATS = 20
# There is one plural DELETE for so many others: its records take longer to create.
_FOR_EACH_PLURAL = 5


def measure(bench: Workbench) -> None:
    templates = {name: rows_of_an_attachment(bench, name) for name in (THIS, PLAIN)}
    includes = {THIS: "timed_look", PLAIN: ""}
    for backend in BACKENDS:
        with ExitStack() as stack:
            subjects = [
                Subject(bench, stack, backend, name, templates[name], count, includes[name])
                for count in ((0, 1_000) if bench.quick else COUNTS)
                for name in (THIS, PLAIN)
            ]
            for subject in subjects:
                # In the collection of the many attachments, Kinto itself would slow down.
                for collection in ("some", "files", "others"):
                    subject.client.create_collection(collection=collection)
                for number in range(5):
                    _repeat(subject, f"warm-up-{number}")
                subject.take()
            for run in bench.runs:
                _run(bench, run, subjects)


def _run(bench: Workbench, run: int, subjects: list[Subject]) -> None:
    for repeat in range(_FOR_EACH_PLURAL if bench.quick else _REPEATS):
        # Every other time the other way round.
        for subject in subjects if repeat % 2 else reversed(subjects):
            _repeat(subject, f"{run}-{repeat}")
            if subject.name == THIS and repeat % _FOR_EACH_PLURAL == 0:
                _delete_many(subject)
    for subject in subjects:
        bench.samples.add(NAME, subject.name, run, subject.case, **subject.take())


def _repeat(subject: Subject, name: str) -> None:
    without = record(f"without-{name}", collection="some")
    _time(subject, PUT, without, look=PUT + LOOK)
    _time(subject, DELETE, without)
    if subject.name == THIS:
        with_file = record(f"with-{name}", collection="some")
        subject.client.upload(with_file, KIB)
        _time(subject, DELETE + FILES, with_file, look=DELETE + LOOK)


def _delete_many(subject: Subject) -> None:
    for number in range(PLURAL):
        subject.client.upload(record(number, collection="files"), KIB)
        subject.client.request("PUT", record(number, collection="others"))
    records = {name: record("", collection=name).rstrip("/") for name in ("files", "others")}
    _time(subject, DELETE_MANY + FILES, records["files"], look=DELETE_MANY + LOOK)
    _time(subject, DELETE_MANY, records["others"])


def _time(subject: Subject, operation: str, path: str, look: str = "") -> None:
    """Send the request; ``look`` is the name for the part of it that is the last look."""
    client, method = subject.client, operation.split()[0]
    subject.time(operation, lambda: client.request(method, path))
    if look and subject.name == THIS:
        subject.add(look, float(client.server_timing.partition("dur=")[2]) / 1000)

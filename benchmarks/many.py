"""Many uploads: 8 of 100 MiB at the same time with small ones beside them, and 30 in a row."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.client import KIB, MIB, at_once, record, timed
from benchmarks.measure import resident, unlinked
from benchmarks.s3 import settings_of
from benchmarks.servers import THIS, Server, Workbench
from tests.support.servers.s3 import SeaweedServer

NAME = "many"
AT_ONCE = 8
IN_A_ROW = 30
SIZE = 100 * MIB
# Waitress, with its 4 threads; and a server that streams, with one for each client.
SERVERS: dict[str, dict[str, Any]] = {
    "waitress": {},
    "gunicorn": {"worker_class": "gthread", "threads": AT_ONCE + 2},
}
VALUES = {
    "at once": {
        "memory": "peak memory over idle",
        "first": "the first one is done after",
        "last": "the last one is done after",
        "alone": "a small upload alone takes",
        "beside": "beside them, the median",
        "longest": "beside them, the longest",
    },
    "in a row": {
        "seconds": "each takes",
        "memory": "memory over idle, afterwards",
        "peak": "peak memory over idle",
        "open files": "deleted files still open",
        "unlinked": "bytes in them",
    },
}
"""What is measured, and its name in the table."""

_ALONE = 20


def measure(bench: Workbench) -> None:
    for run in bench.runs:
        for kind, options in SERVERS.items():
            case = {"what": "at once", "server": kind}
            for subject in bench.plugins:
                with bench.start(subject, kind, **options) as server:
                    bench.samples.add(NAME, subject, run, case, **_at_once(server, bench.quick))
            # The released plugin has no S3.
            case = {"what": "at once", "server": f"{kind}, S3"}
            with (
                SeaweedServer() as s3,
                bench.start(THIS, kind, settings=settings_of(s3), **options) as server,
            ):
                bench.samples.add(NAME, THIS, run, case, **_at_once(server, bench.quick))
        for subject in bench.plugins:
            with bench.start(subject) as server:
                case = {"what": "in a row", "server": "waitress"}
                bench.samples.add(NAME, subject, run, case, **_in_a_row(server, bench.quick))


def _at_once(server: Server, quick: bool) -> dict[str, float]:
    size = 10 * MIB if quick else SIZE
    _warm_up(server)
    alone = _small_uploads(server, lambda sent: sent < _ALONE)
    idle = server.kinto.rss()
    finished: list[float] = []
    beside: list[float] = []
    done = threading.Event()
    start = time.perf_counter()

    def large(number: int) -> None:
        client = server.client()
        client.upload(record(f"large-{number}"), size)
        client.close()
        finished.append(time.perf_counter() - start)
        if len(finished) == AT_ONCE:
            done.set()

    def small() -> None:
        beside.extend(_small_uploads(server, lambda sent: not done.is_set()))

    actions = [lambda number=number: large(number) for number in range(AT_ONCE)]
    at_once([*actions, small])
    values = {
        "memory": float(server.kinto.rss() - idle),
        "first": min(finished),
        "last": max(finished),
        "alone": statistics.median(alone),
        "beside": statistics.median(beside),
        "longest": max(beside),
    }
    server.remove_files()
    return values


def _small_uploads(server: Server, go_on: Callable[[int], bool]) -> list[float]:
    client = server.client()
    seconds: list[float] = []
    while go_on(len(seconds)):
        seconds.append(timed(lambda: client.upload(record("small"), KIB)))
    client.close()
    return seconds


def _in_a_row(server: Server, quick: bool) -> dict[str, float]:
    size = 10 * MIB if quick else SIZE
    _warm_up(server)
    pids = server.kinto.pids()
    idle = resident(pids)
    client = server.client()
    # One record: each upload takes the place of the one before.
    seconds = timed(lambda: [client.upload(record("r"), size) for _ in range(IN_A_ROW)])
    client.close()
    time.sleep(0.5)  # Waitress closes its own files once it has sent the answer.
    count, unlinked_bytes = unlinked(pids)
    values = {
        "seconds": seconds / IN_A_ROW,
        "memory": float(resident(pids) - idle),
        "peak": float(server.kinto.rss() - idle),
        "open files": count,
        "unlinked": unlinked_bytes,
    }
    server.remove_files()
    return values


def _warm_up(server: Server) -> None:
    client = server.client()
    client.create_collection()
    for _ in range(2):
        client.upload(record("first"), MIB)
    client.close()
    server.kinto.reset_rss()

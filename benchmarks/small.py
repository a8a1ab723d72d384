"""Small files, one after the other on kept connections, against a plain PUT of the record."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from benchmarks.client import BLOCK, KIB, Client, Conflict, at_once, record
from benchmarks.samples import percentile
from benchmarks.servers import BACKENDS, Server, Workbench

NAME = "small"
SIZES = (KIB, 64 * KIB)
CLIENTS = (1, 4, 8)
OPERATIONS = ("new", "replace")
PUT = " PUT"
"""``this PUT`` is the plain PUT on the server with this plugin."""

_REQUESTS = 200
_TURNS = 5  # Those who are compared take turns: others use the machine as well.
_RECORDS = 4  # of each client, to replace
_ATTACHMENT_LIKE = {
    "filename": "file.bin",
    "hash": BLOCK[:32].hex(),
    "location": "https://elsewhere.example.org/f9d1b2c3-0123-4567-89ab-cdef01234567.bin",
    "mimetype": "application/octet-stream",
}


def measure(bench: Workbench) -> None:
    for run in bench.runs:
        for backend in BACKENDS:
            with ExitStack() as stack:
                servers = {
                    subject: stack.enter_context(
                        bench.start(
                            subject,
                            database=None if backend == "memory" else bench.new_database(),
                        )
                    )
                    for subject in bench.plugins
                }
                _measure_backend(bench, run, backend, servers)


def _measure_backend(bench: Workbench, run: int, backend: str, servers: dict[str, Server]) -> None:
    requests = 40 if bench.quick else _REQUESTS
    for clients in (1, 4) if bench.quick else CLIENTS:
        for size in SIZES:
            with ExitStack() as stack:
                # The released plugin slows down with what it has already.
                bucket = f"b{clients}-{size}"
                loads = [
                    stack.enter_context(_Load(server, bucket, clients, requests, name, action))
                    for subject, server in servers.items()
                    for name, action in (
                        (subject, lambda client, path, n, size=size: client.upload(path, size)),
                        (subject + PUT, _put),
                    )
                ]
                for operation in OPERATIONS:
                    case = {
                        "backend": backend,
                        "size": size,
                        "clients": clients,
                        "operation": operation,
                    }
                    for turn in range(_TURNS):
                        for load in loads:
                            load.run(operation, turn)
                    for load in loads:
                        bench.samples.add(NAME, load.name, run, case, **load.take())
            for server in servers.values():
                server.remove_files()


def _put(client: Client, path: str, number: int) -> None:
    client.request("PUT", path, {"data": {"file": {**_ATTACHMENT_LIKE, "size": number}}})


class _Load:
    """Clients that send one kind of requests to one server, and the bucket that they write to."""

    def __init__(
        self,
        server: Server,
        bucket: str,
        clients: int,
        requests: int,
        name: str,
        action: Callable[[Client, str, int], object],
    ) -> None:
        self.name = name
        self._action = action
        self._bucket = f"{bucket}-{name.replace(' ', '-')}"
        self._clients = [server.client() for _ in range(clients)]
        self._each = requests // clients // _TURNS
        self._clients[0].create_collection(self._bucket)
        self._start()

    def run(self, operation: str, turn: int) -> None:
        """Send a part of the requests."""
        numbers = range(turn * self._each, (turn + 1) * self._each)

        def work(index: int) -> None:
            for number in numbers:
                one = number if operation == "new" else number % _RECORDS
                self._request(index, record(f"{index}-{one}", self._bucket), number)

        self._seconds += at_once([partial(work, index) for index in range(len(self._clients))])

    def take(self) -> dict[str, float]:
        """Requests per second, and how long one takes, in seconds; from now on it is counted
        anew."""
        taken = {
            "rate": len(self._latencies) / self._seconds,
            "p50": percentile(self._latencies, 0.5),
            "p99": percentile(self._latencies, 0.99),
            "conflicts": len(self._conflicts),
        }
        self._start()
        return taken

    def _start(self) -> None:
        self._seconds = 0.0
        self._latencies: list[float] = []
        self._conflicts: list[str] = []

    def _request(self, index: int, path: str, number: int) -> None:
        start = time.perf_counter()
        while True:
            try:
                self._action(self._clients[index], path, number)
                break
            except Conflict:
                # Two were created in one collection in the same millisecond: Kinto refuses one
                # of them, and tells the client to try again.
                self._conflicts.append(path)
        self._latencies.append(time.perf_counter() - start)

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clients[0].request("DELETE", f"buckets/{self._bucket}")
        for client in self._clients:
            client.close()

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

_REQUESTS = 160
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
            for subject, server in servers.items():
                # The released plugin slows down with what it has already.
                bucket = f"b{clients}-{size}"
                with _Load(server, bucket, clients, requests) as load:
                    for operation in OPERATIONS:
                        case = {
                            "backend": backend,
                            "size": size,
                            "clients": clients,
                            "operation": operation,
                        }
                        for name, action in (
                            (
                                subject,
                                lambda client, path, n, size=size: client.upload(path, size),
                            ),
                            (subject + PUT, _put),
                        ):
                            values = load.run(name, operation, action)
                            bench.samples.add(NAME, name, run, case, **values)
                server.remove_files()


def _put(client: Client, path: str, number: int) -> None:
    client.request("PUT", path, {"data": {"file": {**_ATTACHMENT_LIKE, "size": number}}})


class _Load:
    """Clients that send requests to one server, and the bucket that they write to."""

    def __init__(self, server: Server, bucket: str, clients: int, requests: int) -> None:
        self._bucket = bucket
        self._clients = [server.client() for _ in range(clients)]
        self._each = requests // clients
        self._clients[0].create_collection(bucket)

    def run(
        self, name: str, operation: str, action: Callable[[Client, str, int], object]
    ) -> dict[str, float]:
        """Requests per second, and how long one takes, in seconds."""
        latencies: list[float] = []
        conflicts: list[str] = []
        kind = name.replace(" ", "-")
        if operation == "new":
            paths = [f"{kind}-{{client}}-{number}" for number in range(self._each)]
        else:
            paths = [f"{kind}-{{client}}-{number % _RECORDS}" for number in range(self._each)]

        def work(index: int) -> None:
            client = self._clients[index]
            for number, path in enumerate(paths):
                start = time.perf_counter()
                target = record(path.format(client=index), self._bucket)
                while True:
                    try:
                        action(client, target, number)
                        break
                    except Conflict:
                        # Two were created in one collection in the same millisecond: Kinto
                        # refuses one of them, and tells the client to try again.
                        conflicts.append(target)
                latencies.append(time.perf_counter() - start)

        seconds = at_once([partial(work, index) for index in range(len(self._clients))])
        return {
            "rate": len(latencies) / seconds,
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
            "conflicts": len(conflicts),
        }

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clients[0].request("DELETE", f"buckets/{self._bucket}")
        for client in self._clients:
            client.close()

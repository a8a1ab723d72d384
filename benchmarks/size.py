"""One upload at a time, 1 KiB to 2 GiB, to the local disk."""

from __future__ import annotations

import os
from contextlib import ExitStack

from benchmarks.client import GIB, KIB, MIB, Client, Refused, record, timed
from benchmarks.limit import Limit
from benchmarks.measure import take_memory, usage
from benchmarks.servers import THIS, Server, Workbench

NAME = "size"
SIZES = (KIB, 64 * KIB, MIB, 10 * MIB, 100 * MIB, GIB, 2 * GIB)
SERVERS = ("waitress", "gunicorn")
BUCKETS = ("b", "default")
LIMIT = "limit"

_LARGE = 100 * MIB
# The file itself, what waitress writes of it before, and some more.
_COPIES = 3


def measure(bench: Workbench) -> None:
    sizes = (KIB, MIB, 10 * MIB) if bench.quick else SIZES
    for run in bench.runs:
        # What a process keeps from one upload counts for the next, larger one: memory is that
        # over the idle server, as it was before the first.
        with ExitStack() as stack:
            limit = stack.enter_context(Limit(bench.folder))
            subjects = [
                _Subject(subject, server, stack.enter_context(bench.start(subject, server)))
                for server in SERVERS
                for subject in bench.plugins
            ]
            for size in sizes:
                for bucket in BUCKETS:
                    for subject in subjects:
                        if subject.is_measured(size, bucket):
                            subject.measure(bench, run, size, bucket)
                _measure_limit(bench, run, size, limit)


def _measure_limit(bench: Workbench, run: int, size: int, limit: Limit) -> None:
    _prepare(size)
    before = usage([limit.pid])
    seconds = limit.seconds(size)
    used = usage([limit.pid]) - before
    bench.samples.add(NAME, LIMIT, run, {"size": size}, seconds=seconds, cpu=used.cpu)


def _prepare(size: int) -> None:
    """Wait until the previous uploads are on the disk, and make room for this one in the cache."""
    os.sync()
    if size >= _LARGE:
        take_memory(_COPIES * size)


class _Subject:
    """A server with a plugin."""

    def __init__(self, name: str, kind: str, server: Server) -> None:
        self._name = name
        self._kind = kind
        self._server = server
        client = server.client()
        client.create_collection()
        for bucket in BUCKETS:
            client.upload(record("first", bucket), MIB)
        client.close()
        server.kinto.reset_rss()
        self._idle = server.kinto.rss()

    def is_measured(self, size: int, bucket: str) -> bool:
        """The largest files in one bucket only, and on the server that the bar is about."""
        if size < GIB or (self._name == THIS and size == GIB):
            return True
        return (self._kind == "waitress" and size == GIB) or bucket == "b"

    def measure(self, bench: Workbench, run: int, size: int, bucket: str) -> None:
        case = {"size": size, "server": self._kind, "bucket": bucket}
        client = self._server.client()
        try:
            self._upload(bench, run, size, case, client)
        except (Refused, OSError) as error:
            if self._name == THIS:
                raise
            print(f"the released plugin fails: {case} {str(error)[:200]}", flush=True)
        finally:
            client.close()
            self._server.remove_files()

    def _upload(
        self, bench: Workbench, run: int, size: int, case: dict[str, object], client: Client
    ) -> None:
        server = self._server
        _prepare(size)
        server.kinto.reset_rss()
        before = server.usage()
        path = record(f"r{run}-{size}", str(case["bucket"]))
        seconds = timed(lambda: client.upload(path, size))
        used = server.usage() - before
        bench.samples.add(
            NAME,
            self._name,
            run,
            case,
            seconds=seconds,
            cpu=used.cpu,
            memory=server.kinto.rss() - self._idle,
            written=used.written / size,
            stored=used.stored / size,
        )

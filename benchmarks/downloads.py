"""Downloads of a record's file from the local disk, against a bare WSGI response with the file."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.client import GIB, KIB, MIB, Client, record, timed
from benchmarks.measure import take_memory, usage
from benchmarks.servers import THIS, Workbench
from tests.support.servers.kinto import LiveKinto

NAME = "downloads"
SERVER = "gunicorn"
SIZES = (KIB, 10 * MIB, GIB)
BARE = "bare file"

_CHECKOUT = Path(__file__).resolve().parent.parent


class _BareServer(LiveKinto):
    """``benchmarks.bare_file`` behind a gunicorn like Kinto's."""

    def command(self, server: str, workers: int, worker_class: str, threads: int) -> list[str]:
        command = super().command(server, workers, worker_class, threads)
        paste = command.index("--paste")
        return [*command[:paste], "benchmarks.bare_file:application", *command[paste + 2 :]]


def measure(bench: Workbench) -> None:
    for size in (KIB, 10 * MIB) if bench.quick else SIZES:
        take_memory(2 * size)
        with bench.start(THIS, SERVER) as server:
            client = server.client()
            client.create_collection()
            client.upload(record("r"), size)
            client.close()
            server.kinto.reset_rss()
            (file,) = (path for path in server.files.rglob("*") if path.is_file())
            environ = {"FILE": str(file), "PYTHONPATH": str(_CHECKOUT)}
            with _BareServer({}, SERVER, environ=environ, python=(sys.executable,)) as bare:
                kintos = {THIS: server.kinto, BARE: bare}
                idle = {subject: kinto.rss() for subject, kinto in kintos.items()}
                # The first one, which is not timed, imports what is imported late.
                for kinto in kintos.values():
                    _download(kinto, size)
                for run in bench.runs:
                    for subject, kinto in kintos.items():
                        _measure(bench, run, size, subject, kinto, idle[subject])


def _measure(
    bench: Workbench, run: int, size: int, subject: str, kinto: LiveKinto, idle: int
) -> None:
    before = usage(kinto.pids())
    seconds = timed(lambda: _download(kinto, size))
    used = usage(kinto.pids()) - before
    memory = kinto.rss() - idle
    case = {"size": size, "server": SERVER}
    bench.samples.add(NAME, subject, run, case, seconds=seconds, cpu=used.cpu, memory=memory)


def _download(kinto: LiveKinto, size: int) -> None:
    client = Client(kinto.url)
    received = client.download(record("r"))
    client.close()
    if received != size:
        raise RuntimeError(f"{received} bytes of {size}")

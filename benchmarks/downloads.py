"""Downloads of a record's file from the local disk: by Kinto, against a bare WSGI response with
the file, and by nginx in Kinto's place (``accel``), against nginx without Kinto."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.client import GIB, KIB, MIB, Client, record, timed
from benchmarks.measure import take_memory, usage
from benchmarks.servers import THIS, Server, Workbench
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.nginx import Nginx
from tests.support.servers.ports import free_port

NAME = "downloads"
SERVER = "gunicorn"
ACCEL = "nginx, accel"
SIZES = (KIB, 10 * MIB, GIB)
BARE = "bare file"

_SETTINGS = {
    "kinto.attachment.download.mode": "accel",
    "kinto.attachment.download.accel_prefix": "/internal-files/",
}
_SITE = """
# What deploy/ adds to answers over TLS.
map $https $kinto_hsts {{
    default "";
}}
server {{
    listen 127.0.0.1:{port};
    location /v1/ {{
        proxy_pass http://127.0.0.1:{kinto};
        proxy_set_header Host $http_host;
    }}
    location ^~ /internal-files/public/ {{
        internal;
        alias {folder}/;
        include {accel};
    }}
    location = /bare/{attachment} {{
        alias {file};
    }}
    location @unavailable {{
        return 503;
    }}
    location @no_such_file {{
        return 404;
    }}
    location @range_not_satisfiable {{
        return 416;
    }}
}}
"""

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
                    _download(kinto.url, size)
                for run in bench.runs:
                    for subject, kinto in kintos.items():
                        _measure(bench, run, size, subject, kinto, idle[subject])
        _measure_nginx(bench, size)


def _measure_nginx(bench: Workbench, size: int) -> None:
    with bench.start(THIS, SERVER, settings=_SETTINGS) as server, _nginx(server, size) as url:
        case, idle = {"size": size, "server": ACCEL}, server.kinto.rss()
        for run in bench.runs:
            for subject, prefix in ((THIS, "v1"), (BARE, "bare")):
                seconds = timed(partial(_download, f"{url}/{prefix}/", size))
                memory = server.kinto.rss() - idle
                bench.samples.add(NAME, subject, run, case, seconds=seconds, memory=memory)


@contextmanager
def _nginx(server: Server, size: int) -> Iterator[str]:
    """The URL of an nginx in front of ``server``, which gets a file of that size."""
    client = server.client()
    client.create_collection()
    client.upload(record("r"), size)
    client.close()
    (file,) = (path for path in server.files.rglob("*") if path.is_file())
    folder, port = server.kinto.directory / "nginx", free_port()
    folder.mkdir()
    site = folder / "site.conf"
    accel = _CHECKOUT / "deploy/etc/nginx/kinto/accel.conf"
    names = {"folder": server.files, "file": file, "attachment": f"{record('r')}/attachment"}
    site.write_text(_SITE.format(port=port, kinto=server.kinto.port, accel=accel, **names))
    url = f"http://127.0.0.1:{port}"
    with Nginx(site, folder / "prefix", port):
        # The first one, which is not timed, imports what is imported late.
        _download(f"{url}/v1/", size)
        server.kinto.reset_rss()
        yield url


def _measure(
    bench: Workbench, run: int, size: int, subject: str, kinto: LiveKinto, idle: int
) -> None:
    before = usage(kinto.pids())
    seconds = timed(lambda: _download(kinto.url, size))
    used = usage(kinto.pids()) - before
    memory = kinto.rss() - idle
    case = {"size": size, "server": SERVER}
    bench.samples.add(NAME, subject, run, case, seconds=seconds, cpu=used.cpu, memory=memory)


def _download(url: str, size: int) -> None:
    client = Client(url)
    received = client.download(record("r"))
    client.close()
    if received != size:
        raise RuntimeError(f"{received} bytes of {size}")

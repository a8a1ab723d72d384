"""How WSGI servers carry an upload: ``python -m benchmarks.wsgi_servers``, in a checkout.

For each server, directly and behind nginx (as deploy/ sets it up: bodies are not spooled):

* three uploads of a file: how long they take, as a multiple of what it takes to hash such a file
  and to write it to the same disk at that moment (median); how much memory the largest process of
  the server needs on top of what it has when idle; and what the server and nginx write to the
  disk, as a multiple of the file (1: the file, and nothing else);
* an upload whose length nobody knows beforehand (RFC 9112, section 7.1);
* an upload that is refused before its body is read (401, and 413 for a Content-Length over
  max_size_bytes), by a client that looks for an answer while it sends (curl, browsers), and by
  one that looks only once it cannot send any more (most libraries). How often does the answer
  arrive, and how much of the body (100 MiB) was sent for it?

It needs what the tests need, and "pip install granian pyuwsgi" for the last two. Objects are kept
in memory, files on the disk: TMPDIR should be on one. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.wsgi_client import BLOCK, Answer, Client
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.nginx import Nginx
from tests.support.servers.ports import free_port

SERVERS = ("waitress", "gunicorn", "gunicorn with deploy/", "granian", "uwsgi")
THREADS = 16
UPLOADS = 3
TRIES = 5
MIB = 1024 * 1024
# Of the uploads that are refused: more than what is on its way in the buffers of sockets.
REFUSED_SIZE = 100 * MIB
# Of the collection "small".
MAX_SIZE = 1000
CHECKOUT = Path(__file__).resolve().parent.parent

SITE = """\
upstream kinto {{
    server 127.0.0.1:{server};
    keepalive 16;
}}
server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{
        proxy_pass http://kinto;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_request_buffering off;
        proxy_read_timeout 600s;
    }}
}}
"""

HEADINGS = (
    *("server", "", "time", "memory", "disk", "no length"),
    *("401, looks", "401, does not", "413, looks", "413, does not"),
)


class Server(LiveKinto):
    """Kinto under one of the servers, in one process with ``THREADS`` threads."""

    def command(self, server: str, workers: int, worker_class: str, threads: int) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        app = "benchmarks.wsgi_app:application"
        return {
            "waitress": [
                *("-m", "waitress", f"--listen={address}", f"--threads={THREADS}"),
                # The default is 1 GiB, with the form around the file.
                *(f"--max-request-body-size={1 << 40}", app),
            ],
            "gunicorn": [
                *("-m", "gunicorn", "--bind", address, "--worker-class", "gthread"),
                *("--threads", str(THREADS), "--no-control-socket", app),
            ],
            "gunicorn with deploy/": [
                *("-m", "gunicorn", "--bind", address, "--log-config", str(self.ini)),
                *("--config", str(CHECKOUT / "deploy/etc/kinto/gunicorn.conf.py"), app),
            ],
            "granian": [
                *("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
                *("--port", str(self.port), "--blocking-threads", str(THREADS), app),
            ],
            "uwsgi": [
                *("-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"),
                *("--http-socket", address, "--master", "--enable-threads"),
                *("--threads", str(THREADS), "--need-app", "--die-on-term"),
                *("--disable-logging", "--module", app),
            ],
        }[server]


def measure(server: str, size: int, folder: Path) -> Iterator[list[str]]:
    """The rows of a server: directly, and behind nginx. ``size`` is in bytes."""
    settings = {
        "kinto.includes": "kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the benchmark",
        "kinto.attachment.base_path": str(folder / "files"),
        "kinto.attachment.base_url": "https://files.example.org/",
        "kinto.attachment.resources.b.small.max_size_bytes": str(MAX_SIZE),
    }
    port = free_port()
    environ = {"PYTHONPATH": str(CHECKOUT)}
    with Server(settings, server, environ=environ, python=(sys.executable,)) as kinto:
        site = folder / "site.conf"
        site.write_text(SITE.format(server=kinto.port, port=port))
        with Nginx(site, folder / "nginx", port) as nginx:
            Client(kinto.port).create_collections()
            yield [server, "directly", *_cells(kinto, kinto.pids(), kinto.port, size, folder)]
            processes = [*kinto.pids(), *nginx.pids()]
            yield ["", "behind nginx", *_cells(kinto, processes, port, size, folder)]


def _cells(
    kinto: Server, processes: Sequence[int], port: int, size: int, folder: Path
) -> list[str]:
    client = Client(port)
    client.upload(MIB)
    kinto.reset_rss()
    idle, written = kinto.rss(), _written(processes)
    times = []
    for _ in range(UPLOADS):
        least = _least_seconds(size, folder / "file")
        started = time.monotonic()
        answer = client.upload(size)
        times.append((time.monotonic() - started) / least)
        if answer.status != 200:
            raise RuntimeError(f"{answer}\n{kinto.log.read_text()}")
    cells = [
        f"{statistics.median(times):.1f}",
        f"{(kinto.rss() - idle) / MIB:.0f} MiB",
        f"{(_written(processes) - written) / size / UPLOADS:.2f}",
        str(client.upload(MIB, chunked=True).status or "lost"),
    ]
    refused = min(size, REFUSED_SIZE)
    for status, options in ((401, {"authorized": False}), (413, {"collection": "small"})):
        for looks in (True, False):
            answers = [client.upload(refused, looks=looks, **options) for _ in range(TRIES)]
            cells.append(_told(status, answers))
    return cells


def _least_seconds(size: int, path: Path) -> float:
    """What it takes to hash and to write so many bytes, without a server."""
    started = time.monotonic()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(0, size, len(BLOCK)):
            digest.update(BLOCK)
            file.write(BLOCK)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.monotonic() - started
    path.unlink()
    return seconds


def _told(status: int, answers: Sequence[Answer]) -> str:
    """How often the right answer came, what came in its place, and the median of what was sent."""
    others = sorted({str(answer.status or "lost") for answer in answers} - {str(status)})
    told = sum(1 for answer in answers if answer.status == status)
    sent = statistics.median(answer.sent for answer in answers)
    text = f"{told}/{len(answers)}, {sent / MIB:.0f} MiB"
    return f"{text} ({', '.join(others)})" if others else text


def _written(processes: Sequence[int]) -> int:
    """The bytes that processes have sent to a disk (proc_pid_io(5), ``write_bytes``)."""
    total = 0
    for pid in processes:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                total += int(line.split()[1])
    return total


def table(rows: Sequence[Sequence[str]]) -> str:
    """A simple table of reStructuredText. A first cell must not be empty: ``\\`` is."""
    rows = [[cell or "\\" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for the ``arguments`` (those of the process)."""
    summary, _, description = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=f"{summary}\n\n{description}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=1024, help="size of the upload (1024)")
    parser.add_argument(
        "servers", nargs="*", default=SERVERS, metavar="SERVER", help=", ".join(SERVERS)
    )
    options = parser.parse_args(arguments)
    rows: list[Sequence[str]] = [HEADINGS]
    for server in options.servers:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(server, options.mib * MIB, Path(folder)):
                rows.append(row)
                print("  ".join(row), file=sys.stderr, flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One upload over many requests, by two tus clients, against a plain upload of the same bytes, and
against ``@tus/server``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.client import MIB, Client, blocks, record, timed
from benchmarks.s3 import settings_of
from benchmarks.samples import Samples
from benchmarks.servers import THIS, Server, Workbench
from benchmarks.tus_clients import (
    Packages,
    TusServer,
    send_in_one_patch,
    send_with_tus_js_client,
    send_with_tuspy,
)
from tests.support.servers.gcs import GcsServer
from tests.support.servers.s3 import SeaweedServer

NAME = "resumable"
SIZE = 500 * MIB
PLAIN_UPLOAD = "plain upload"
ONE_PATCH = "one PATCH"
TUS_SERVER = "@tus/server"

_Send = Callable[[str, Path], float]


@dataclass(frozen=True)
class Setup:
    """A server of ours: where it has files and objects."""

    storage: str
    server: str
    backend: str


SETUPS = (
    Setup("local", "gunicorn", "memory"),
    Setup("local", "gunicorn", "postgresql"),
    Setup("local", "waitress", "memory"),
    Setup("s3", "gunicorn", "postgresql"),
    Setup("gcloud", "gunicorn", "memory"),
)


def measure(bench: Workbench) -> None:
    """The released plugin has no uploads of this kind."""
    packages = Packages(bench.downloads)
    clients: dict[str, _Send] = {
        ONE_PATCH: send_in_one_patch,
        "tuspy": send_with_tuspy,
        "tus-js-client": partial(send_with_tus_js_client, package=packages.client()),
    }
    size = 20 * MIB if bench.quick else SIZE
    path = bench.folder / "file.bin"
    with path.open("wb") as file:
        for block in blocks(size):
            file.write(block)
    for run in bench.runs:
        with ExitStack() as stack:
            s3 = stack.enter_context(SeaweedServer())
            gcs = stack.enter_context(GcsServer())
            subjects = [_Subject(bench, setup, s3, gcs, stack) for setup in SETUPS]
            folder = bench.folder / f"tus-{run}"
            folder.mkdir()
            theirs = stack.enter_context(TusServer(packages, folder))
            for client, send in clients.items():
                for subject in subjects:
                    subject.measure(run, client, send, path)
                seconds = send(theirs.url, path)
                theirs.remove_files()
                # It knows nothing of our servers, and stands beside all that have a local disk.
                for setup in SETUPS:
                    if setup.storage == "local":
                        case = _case(size, client, setup)
                        values = {"seconds": seconds, "peak": theirs.peak}
                        bench.samples.add(NAME, TUS_SERVER, run, case, **values)
    path.unlink()


def rate(samples: Samples, subject: str, case: dict[str, Any]) -> float | None:
    """MiB per second, ``None`` if it was not measured."""
    seconds = samples.median(NAME, subject, case, "seconds")
    return None if seconds is None else case["size"] / MIB / seconds


def against(samples: Samples, subject: str, case: dict[str, Any]) -> float | None:
    """How many times as many bytes per second as ``subject``."""
    return samples.ratio(NAME, case, "seconds", subject, THIS)


def _case(size: int, client: str, setup: Setup) -> dict[str, Any]:
    return {
        "size": size,
        "client": client,
        "storage": setup.storage,
        "server": setup.server,
        "backend": setup.backend,
    }


class _Subject:
    """A running server of ours."""

    def __init__(
        self,
        bench: Workbench,
        setup: Setup,
        s3: SeaweedServer,
        gcs: GcsServer,
        stack: ExitStack,
    ) -> None:
        self._bench = bench
        self._setup = setup
        self._s3 = s3
        self._gcs = gcs
        settings = {
            "s3": settings_of(s3),
            "gcloud": {
                "kinto.attachment.base_path": None,
                "kinto.attachment.gcloud.bucket_name": gcs.bucket,
                "kinto.attachment.gcloud.endpoint_url": gcs.endpoint_url,
            },
        }
        self._server: Server = stack.enter_context(
            bench.start(
                THIS,
                setup.server,
                database=bench.new_database() if setup.backend == "postgresql" else None,
                settings=settings.get(setup.storage),
            )
        )
        client = self._server.client()
        client.create_collection()
        client.upload(record("first"), MIB)
        client.close()
        self._server.kinto.reset_rss()
        self._idle = self._server.kinto.rss()

    def measure(self, run: int, client: str, send: _Send, path: Path) -> None:
        """First a plain upload, then one by the client."""
        plain = self._server.client()
        self._add(run, client, PLAIN_UPLOAD, path, lambda: _plain(plain, path))
        plain.close()
        # No space in a URL.
        endpoint = f"{record(client.replace(' ', '-'))}/attachment"
        url = f"{self._server.kinto.url}{endpoint}"
        self._add(run, client, THIS, path, lambda: send(url, path))

    def _add(
        self, run: int, client: str, subject: str, path: Path, action: Callable[[], float]
    ) -> None:
        server, size = self._server, path.stat().st_size
        server.kinto.reset_rss()
        before = server.usage()
        seconds = action()
        used = server.usage() - before
        self._bench.samples.add(
            NAME,
            subject,
            run,
            _case(size, client, self._setup),
            seconds=seconds,
            cpu=used.cpu,
            memory=server.kinto.rss() - self._idle,
            written=used.written / size,
        )
        server.remove_files()
        self._s3.empty()
        self._gcs.reset()


def _plain(client: Client, path: Path) -> float:
    return timed(lambda: client.upload(record("plain"), path.stat().st_size))

"""Uploads to S3, a server on this machine, against boto3's own upload of the same file."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.client import GIB, KIB, MIB, blocks, record, timed
from benchmarks.servers import THIS, Server, Workbench
from tests.support.servers.ports import free_port
from tests.support.servers.s3 import SeaweedServer

NAME = "s3"
SIZES = (KIB, 10 * MIB, GIB)
SERVERS = ("waitress", "gunicorn")
TLS = "gunicorn, TLS"
BOTO3 = "boto3"


def measure(bench: Workbench) -> None:
    """The released plugin has no S3."""
    sizes = (KIB, 10 * MIB) if bench.quick else SIZES
    for run in bench.runs:
        with ExitStack() as stack:
            s3 = stack.enter_context(TlsServer(bench.folder))
            servers = {
                kind: stack.enter_context(bench.start(THIS, kind, settings=settings_of(s3)))
                for kind in SERVERS
            }
            settings = {**settings_of(s3), "kinto.attachment.aws.endpoint_url": s3.https_url}
            with mock.patch.dict(os.environ, AWS_CA_BUNDLE=str(s3.certificate)):
                servers[TLS] = stack.enter_context(
                    bench.start(THIS, "gunicorn", settings=settings)
                )
            for server in servers.values():
                _warm_up(server)
            idle = {kind: server.kinto.rss() for kind, server in servers.items()}
            for size in sizes:
                _measure_boto3(bench, run, size, s3)
                for kind, server in servers.items():
                    _measure_upload(bench, run, size, kind, server, idle[kind])
                    s3.empty()


class TlsServer(SeaweedServer):
    """SeaweedFS that speaks HTTPS as well."""

    def __init__(self, folder: Path) -> None:
        """The certificate is put in ``folder``."""
        self.certificate = folder / "certificate.pem"
        self._key = folder / "key.pem"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        files = ("-keyout", str(self._key), "-out", str(self.certificate))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
        subprocess.run(command, check=True, capture_output=True)
        self._https_port = free_port()
        super().__init__()

    @property
    def https_url(self) -> str:
        return f"https://127.0.0.1:{self._https_port}"

    def command(self) -> list[str]:
        return [
            *super().command(),
            f"-s3.port.https={self._https_port}",
            f"-s3.cert.file={self.certificate}",
            f"-s3.key.file={self._key}",
        ]


def _measure_boto3(bench: Workbench, run: int, size: int, s3: SeaweedServer) -> None:
    path = bench.folder / "file"
    with path.open("wb") as file:
        for block in blocks(size):
            file.write(block)
    client = s3.client()
    seconds = timed(lambda: _upload_fileobj(client, s3.bucket, path))
    client.close()
    for kind in SERVERS:
        bench.samples.add(NAME, BOTO3, run, {"size": size, "server": kind}, seconds=seconds)
    path.unlink()
    s3.empty()


def _upload_fileobj(client: Any, bucket: str, path: Path) -> None:
    with path.open("rb") as file:
        client.upload_fileobj(file, bucket, "file")


def _measure_upload(
    bench: Workbench, run: int, size: int, kind: str, server: Server, idle: int
) -> None:
    client = server.client()
    server.kinto.reset_rss()
    before = server.usage()
    seconds = timed(lambda: client.upload(record(f"r{size}"), size))
    used = server.usage() - before
    client.close()
    bench.samples.add(
        NAME,
        THIS,
        run,
        {"size": size, "server": kind},
        seconds=seconds,
        cpu=used.cpu,
        memory=server.kinto.rss() - idle,
        written=used.written / size,
    )


def _warm_up(server: Server) -> None:
    client = server.client()
    client.create_collection()
    client.upload(record("first"), MIB)
    client.close()
    server.kinto.reset_rss()


def settings_of(s3: SeaweedServer) -> dict[str, Any]:
    """What a Kinto needs that has its files there."""
    return {
        "kinto.attachment.base_path": None,
        "kinto.attachment.aws.bucket": s3.bucket,
        "kinto.attachment.aws.endpoint_url": s3.endpoint_url,
        "kinto.attachment.aws.access_key": s3.access_key,
        "kinto.attachment.aws.secret_key": s3.secret_key,
        "kinto.attachment.aws.region": s3.region,
        "kinto.attachment.aws.use_path_style": "true",
    }

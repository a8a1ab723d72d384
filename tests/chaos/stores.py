"""Where the files are, and how that fails: a small disk, an S3 server behind a proxy, or a server
that plays Google Cloud Storage."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.support.live.client import KIB, MIB
from tests.support.live.proxy import S3Proxy, breaks_off, fails_inside
from tests.support.live.verifier import Files, GCloudFiles, LocalFiles, S3Files
from tests.support.servers import gcs
from tests.support.servers.disk import SmallDisk
from tests.support.servers.gcs.errors import GcsError
from tests.support.servers.http import loses_the_answer
from tests.support.servers.privileges import as_a_user_like_others
from tests.support.servers.s3 import SeaweedServer

Outage = Callable[[], AbstractContextManager[None]]
"""Makes the context of something that does not work, until the block ends."""

_DISK = 512 * MIB
_UNIT = 256 * KIB


class Store:
    """``settings`` are the plugin's, ``prefix`` is what the servers' commands start with,
    ``files`` what is stored, ``outages`` what may happen, by name."""

    settings: Mapping[str, str]
    prefix: tuple[str, ...] = ()
    files: Files
    outages: Mapping[str, Outage]

    def read(self, name: str) -> bytes | None:
        """The content of a stored file, ``None`` if there is none."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop what runs, and remove the files."""
        raise NotImplementedError


class LocalStore(Store):
    """A folder; on a disk of its own where the system gives one, so that it can be full."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-files-"))
        self._holder: subprocess.Popen[bytes] | None = None
        self.prefix = tuple(as_a_user_like_others())
        self.outages = {"folder unwritable": self._unwritable}
        disk = self._folder
        try:
            self._small_disk = SmallDisk(self._folder, _DISK)
        except RuntimeError as error:
            print(f"The disk will not be filled: {error}", flush=True)
        else:
            # Whatever is stopped, the disk stays as long as this runs.
            self._holder = subprocess.Popen(
                [*self._small_disk.wrapper, "sleep", "infinity"], start_new_session=True
            )
            disk = self._mounted(self._holder.pid)
            user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
            enter = ("nsenter", f"--target={self._holder.pid}", "--mount", *user)
            self.prefix = (*enter, *self.prefix)
            self.outages["disk full"] = self._full
        self._disk = disk
        self._files = disk / "files"
        self._files.mkdir()
        self.files = LocalFiles(self._files)
        self.settings = {"kinto.attachment.base_path": str(self._folder / "files")}

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._files / name).read_bytes()
        return None

    def close(self) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mounted(self, pid: int) -> Path:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError):
                # It is a process of sh until the disk is mounted.
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    return self._small_disk.folder(pid)
            time.sleep(0.02)
        raise RuntimeError("the disk was not mounted")

    @contextmanager
    def _unwritable(self) -> Iterator[None]:
        """What is begun in the folder fails; below it, files are still deleted."""
        self._files.chmod(0o500)
        try:
            yield
        finally:
            self._files.chmod(0o755)

    @contextmanager
    def _full(self) -> Iterator[None]:
        filler = self._disk / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(MIB)):
                    pass
            yield
        finally:
            filler.unlink(missing_ok=True)


class S3Store(Store):
    """SeaweedFS behind a proxy."""

    def __init__(self) -> None:
        self._server = SeaweedServer()
        self._proxy = S3Proxy(self._server)
        self.files = S3Files(self._server)
        # As many retries as there are by default.
        self.settings = {
            name: value
            for name, value in self._proxy.settings.items()
            if not name.endswith(".num_retries")
        }
        failing = {
            f"store: {fault.__name__.replace('_', ' ')}, {operation}": partial(
                self._failing, operation, fault
            )
            for fault in (fails_inside, breaks_off, loses_the_answer)
            for operation in ("put", "part", "complete", "delete", "copy")
        }
        # Each as often as all of the others.
        self.outages = {"store cut off": self._proxy.down, **failing}

    def read(self, name: str) -> bytes | None:
        admin = self._server.admin
        with suppress(admin.exceptions.NoSuchKey):
            answer = admin.get_object(Bucket=self._server.bucket, Key=name)
            content: bytes = answer["Body"].read()
            return content
        return None

    def close(self) -> None:
        self._proxy.stop()
        self._server.stop()

    @contextmanager
    def _failing(self, operation: str, fault: Callable[..., None]) -> Iterator[None]:
        self._proxy.fail(operation, fault)
        try:
            yield
        finally:
            self._proxy.reset()


class _Objects(GCloudFiles):
    """Of an upload session that was left alone, Google itself gets rid."""

    def unfinished(self) -> list[str]:
        return []


class GCloudStore(Store):
    """What plays Google Cloud Storage, in this process: it has its objects in memory, so its
    connections fail, and it is never killed."""

    def __init__(self) -> None:
        self._server = gcs.GcsServer()
        self.files = _Objects(self._server)
        # As many retries as there are by default.
        self.settings = {
            name: value
            for name, value in self._server.settings.items()
            if not name.endswith(".num_retries")
        }
        faults = {
            "fails inside": gcs.answers_as(GcsError(500, "backendError", "Backend Error")),
            "breaks off": gcs.breaks_the_line(300 * KIB),
            "loses the answer": gcs.loses_the_answer,
        }
        failing = {
            f"store: {fault}, {operation}": partial(self._failing, operation, faults[fault])
            for fault in faults
            for operation in ("insert", "start", "chunk", "compose", "delete")
        }
        odd = {
            "store: keeps half": self._keeping_half,
            "store: one write per second": self._limited,
            "store: sessions lost": self._losing_sessions,
        }
        # Each as often as all of the others.
        self.outages = {"store cut off": self._server.down, **failing, **odd}

    def read(self, name: str) -> bytes | None:
        found = self._server.objects().get(name)
        return None if found is None else found.content

    def close(self) -> None:
        self._server.__exit__()

    @contextmanager
    def _failing(self, operation: str, fault: Callable[..., None]) -> Iterator[None]:
        self._server.fail(operation, fault)
        try:
            yield
        finally:
            self._server.heal()

    @contextmanager
    def _keeping_half(self) -> Iterator[None]:
        """Of a chunk, half of its units."""
        self._server.acknowledges = lambda size: size // _UNIT // 2 * _UNIT
        try:
            yield
        finally:
            self._server.acknowledges = None

    @contextmanager
    def _limited(self) -> Iterator[None]:
        self._server.one_write_per_second = True
        try:
            yield
        finally:
            self._server.one_write_per_second = False

    @contextmanager
    def _losing_sessions(self) -> Iterator[None]:
        self._server.lose_sessions()
        yield


STORES: Mapping[str, Callable[[], Store]] = {
    "local": LocalStore,
    "s3": S3Store,
    "gcloud": GCloudStore,
}

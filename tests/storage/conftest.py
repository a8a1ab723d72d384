"""Empty file storages for the tests: on the local disk, on two S3 servers that are started once,
side by side, and on one that plays Google Cloud Storage."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from kinto_attachment.storage import FileStorage, NewFile
from kinto_attachment.storage.gcloud import GCloudStorage
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.options import GCloudOptions, S3Options
from kinto_attachment.storage.s3 import S3Storage
from kinto_attachment.storage.s3 import bucket as s3_bucket
from tests.support.servers.gcs import GcsServer
from tests.support.servers.s3 import MiniStackServer, RcloneServer, S3Server
from tests.support.storage_faults import Faults, Fuse, disk_fails, gcloud_fails, s3_fails

PIECE = re.compile(r"\.[0-9a-f-]{36}-\d{10}\.part")
"""The name of a resumable file's piece on Google Cloud Storage."""
BASE_URL = "https://files.example.org/"

# "make tests-stores" runs the tests on these.
MORE_STORES = [
    pytest.param(name, marks=pytest.mark.more_stores) for name in ("ministack", "rclone")
]


class Backend:
    """A storage with nothing in it, and what is to be seen behind its back."""

    def __init__(
        self,
        make: Callable[..., FileStorage],
        leftovers: Callable[[], list[str]],
        fails: Callable[[Fuse, Any], AbstractContextManager[None]],
        arguments: tuple[Any, ...],
    ):
        self.make = make
        """Makes another storage in the same place, of these options."""
        self.storage = make()
        self.arguments = arguments
        """What ``storage_of()`` makes a storage of, in another process."""
        self._leftovers = leftovers
        self._fails = fails

    def fails(self, fuse: Fuse) -> AbstractContextManager[None]:
        """Until the end of the ``with``, let the storage be down once the fuse has blown."""
        return self._fails(fuse, self.storage)

    def everything(self) -> list[str]:
        """The names of all files and of all that uploads left, sorted."""
        return sorted([file.name for file in self.storage.list()] + self._leftovers())

    def store(self, content: bytes, filename: str = "a.txt", **options: Any) -> str:
        """Store a file in one go; return its name."""
        staged = self.storage.stage(NewFile(filename, **options))
        staged.write(content)
        return staged.finish()

    def content(self, name: str) -> bytes:
        return b"".join(self.storage.read(name))


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """The server that the tests share."""
    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs(gcs_server: GcsServer) -> Iterator[GcsServer]:
    """A server that plays Google Cloud Storage, with an empty bucket."""
    yield gcs_server
    gcs_server.reset()
    # Else each connection that a storage keeps open is a thread here.
    gcs_server.disconnect()


@pytest.fixture(scope="session")
def ministack_server() -> Iterator[S3Server]:
    with MiniStackServer() as server:
        yield server


@pytest.fixture
def ministack(ministack_server: S3Server) -> Iterator[S3Server]:
    yield ministack_server
    ministack_server.empty()


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[S3Server]:
    with RcloneServer() as server:
        yield server


@pytest.fixture
def rclone(rclone_server: S3Server) -> Iterator[S3Server]:
    yield rclone_server
    rclone_server.empty()


def expect_limits(request: pytest.FixtureRequest) -> None:
    """Let a test that is marked as a limit of the store ``request.param`` fail as it says."""
    for mark in request.node.iter_markers("limit_of"):
        store, reason, raises = mark.args
        if store == request.param:
            request.applymarker(pytest.mark.xfail(raises=raises, reason=f"{store}: {reason}"))


@pytest.fixture(params=["moto", "seaweedfs", *MORE_STORES])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn, with an empty bucket."""
    expect_limits(request)
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def shared_client() -> Iterator[Callable[[S3Options], Any]]:
    """Makes clients, one for the same options: it takes a while."""
    made: dict[S3Options, Any] = {}

    def make(options: S3Options, make: Callable[..., Any] = s3_bucket._make_client) -> Any:
        if options not in made:
            made[options] = make(options)
        return made[options]

    yield make
    for client in made.values():
        client.close()


@pytest.fixture
def make_s3(
    shared_client: Callable[[S3Options], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., S3Storage]:
    """``make_s3(server, acl="private")`` makes a storage in the bucket of ``server``."""
    monkeypatch.setattr(s3_bucket, "_make_client", shared_client)
    return s3_storage


@pytest.fixture
def make_faults() -> Iterator[Callable[[S3Storage], Faults]]:
    """``make_faults(storage)``, until the end of the test."""
    made = []

    def make(storage: S3Storage) -> Faults:
        made.append(Faults(storage))
        return made[-1]

    yield make
    for faults in made:
        faults.end()


# Not moto: what it answers otherwise than a real store, the tests of S3 know.
@pytest.fixture(params=["local", "seaweedfs", *MORE_STORES, "gcloud"])
def backend(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_s3: Callable[..., S3Storage],
) -> Backend:
    """Each backend in turn."""
    expect_limits(request)
    if request.param == "local":

        def make_local(base_url: str = BASE_URL, extensions: str = "default") -> LocalStorage:
            return LocalStorage(tmp_path / "files", base_url, extensions)

        return Backend(
            make_local, list, lambda fuse, _: disk_fails(fuse), (str(tmp_path / "files"),)
        )
    if request.param == "gcloud":
        gcs: GcsServer = request.getfixturevalue("gcs")
        return Backend(
            lambda **options: gcloud_storage(gcs, **options),
            lambda: [
                f"{each.name}?upload_id={each.upload_id}"
                for each in gcs.sessions()
                # Nobody can find that of a killed process. Google forgets it within a week.
                if not PIECE.fullmatch(each.name)
            ],
            gcloud_fails,
            (gcs.endpoint_url, gcs.bucket),
        )
    server: S3Server = request.getfixturevalue(request.param)
    return Backend(
        lambda **options: make_s3(server, **options),
        lambda: [f"{key}?uploadId={upload}" for key, upload in server.uploads()],
        s3_fails,
        (server.endpoint_url, server.bucket, server.access_key, server.secret_key, server.acl),
    )


@pytest.fixture
def storage(backend: Backend) -> FileStorage:
    return backend.storage


@pytest.fixture(autouse=True)
def _no_thread_is_left(gcs_server: GcsServer) -> Iterator[None]:
    # The server's own thread is there before, and until the end.
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 2
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


class UsedMeanwhile:
    """An ``is_used()`` that learns of ``names`` when it has been asked for them once: another
    process has stored and deleted files of that name since the first look."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.asked: list[str] = []

    def __call__(self, name: str) -> bool:
        self.asked.append(name)
        return name in self._names and self.asked.count(name) > 1


def storage_of(*arguments: str) -> FileStorage:
    """The storage of a ``Backend`` with these arguments."""
    if len(arguments) == 1:
        return LocalStorage(arguments[0])
    if len(arguments) == 2:
        return GCloudStorage(GCloudOptions(arguments[1], endpoint_url=arguments[0]))
    endpoint_url, bucket, access_key, secret_key, acl = arguments
    options = S3Options(
        bucket,
        acl=acl,
        access_key=access_key,
        secret_key=secret_key,
        endpoint_url=endpoint_url,
        use_path_style=True,
    )
    return S3Storage(options)


def s3_storage(
    server: S3Server, base_url: str = BASE_URL, extensions: Any = "default", **options: Any
) -> S3Storage:
    """A storage in the bucket of ``server``; ``options`` are those of ``S3Options``."""
    defaults = {
        "bucket": server.bucket,
        "acl": server.acl,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "endpoint_url": server.endpoint_url,
        "use_path_style": True,
        "num_retries": 0,
    }
    return S3Storage(S3Options(**{**defaults, **options}), base_url, extensions)


def gcloud_storage(
    server: GcsServer, base_url: str = BASE_URL, extensions: Any = "default", **options: Any
) -> GCloudStorage:
    """A storage in the bucket of ``server``; ``options`` are those of ``GCloudOptions``."""
    defaults = {"bucket": server.bucket, "endpoint_url": server.endpoint_url, "num_retries": 0}
    return GCloudStorage(GCloudOptions(**{**defaults, **options}), base_url, extensions)


def open_files() -> list[str]:
    """What this process has open, by descriptor."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return found


@functools.lru_cache(maxsize=8)
def random_bytes(size: int) -> bytes:
    """The same bytes for the same size."""
    return random.Random(size).randbytes(size)  # noqa: S311

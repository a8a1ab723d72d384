"""One Kinto for all the tests of the scripts; each test has a bucket of its own in it."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.servers import forked
from tests.support.servers.http import FileServer, Proxy
from tests.support.servers.kinto import LiveKinto

SCRIPTS = Path(__file__).parents[2] / "scripts"
SECONDS = 30.0

# Runs a script, and says in the end how much memory it has taken at most, in KiB.
MEASURED = """
import pathlib, re, runpy, sys
del sys.argv[0]
sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    peak = re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())
    print(peak[1], file=sys.stderr)
"""

_numbers = itertools.count(1)


class Kinto:
    """The collection of a test, as ``alice`` sees it. It is the script that creates it."""

    def __init__(self, url: str, bucket: str) -> None:
        self.url = url
        self.bucket = bucket
        self.collection = "assets"

    @property
    def uri(self) -> str:
        return f"buckets/{self.bucket}/collections/{self.collection}"

    def request(self, method: str, uri: str, **options: Any) -> Any:
        """Ask Kinto, and return the answer's JSON."""
        options.setdefault("auth", ("alice", "secret"))
        answer = requests.request(method, f"{self.url}{uri}", timeout=SECONDS, **options)
        answer.raise_for_status()
        return answer.json()

    def create(self, permissions: dict[str, list[str]] | None = None) -> None:
        """Create the collection before a script does."""
        self.request("PUT", f"buckets/{self.bucket}")
        self.request("PUT", self.uri, json={"permissions": permissions or {}})

    def user(self, name: str) -> str:
        """A user as permissions name it."""
        return str(self.request("GET", "", auth=(name, "secret"))["user"]["id"])

    def records(self) -> list[dict[str, Any]]:
        answer = self.request("GET", f"{self.uri}/records", params={"_sort": "id"})
        return list(answer["data"])

    def record(self, name: str) -> dict[str, Any]:
        """The record of the file with that name."""
        return dict(self.request("GET", f"{self.uri}/records/{record_id(name)}")["data"])

    def put(self, record_id: str, **attributes: Any) -> dict[str, Any]:
        """Write a record."""
        uri = f"{self.uri}/records/{record_id}"
        return dict(self.request("PUT", uri, json={"data": attributes})["data"])

    def patch(self, record_id: str, **attributes: Any) -> None:
        uri = f"{self.uri}/records/{record_id}"
        self.request("PATCH", uri, json={"data": attributes})

    def attach(self, record_id: str, filename: str, content: bytes) -> dict[str, Any]:
        """Upload a file, as another client does."""
        uri = f"{self.uri}/records/{record_id}/attachment"
        return dict(self.request("POST", uri, files={"attachment": (filename, content)}))

    def delete(self, record_id: str) -> None:
        self.request("DELETE", f"{self.uri}/records/{record_id}")


class Finished:
    """What a script has left."""

    def __init__(self, status: int, out: str, err: str, seconds: float) -> None:
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def lines(self) -> list[str]:
        """What it said of the files."""
        return sorted(self.out.splitlines()[:-1])

    @property
    def summary(self) -> str:
        """Its last line, without the time that it took."""
        return self.out.splitlines()[-1].rpartition(", ")[0]

    def __repr__(self) -> str:
        return f"{self.status}\n{self.out}\n{self.err}"


class Script:
    """One of the scripts, to be run on the collection of a test."""

    def __init__(self, name: str, kinto: Kinto, folder: Path) -> None:
        self._path = SCRIPTS / name
        self._kinto = kinto
        self._folder = folder

    def __call__(self, *arguments: Any, status: int = 0, **options: Any) -> Finished:
        """Run it to its end. Fails if it ends with another status."""
        started = time.monotonic()
        if options.keys() <= {"url", "auth", "environ"}:
            # Forked, because Python takes longer to start than the script to run.
            environ = {**os.environ, **options.pop("environ", {})}
            command = self._command(*arguments, **options)
            process = forked.run(command, environ, self._folder, timeout=2 * SECONDS)
            out, err = process.stdout, process.stderr
        else:
            with self.start(*arguments, **options) as process:
                try:
                    out, err = process.communicate(timeout=2 * SECONDS)
                except BaseException:
                    process.kill()
                    raise
        finished = Finished(process.returncode, out, err, time.monotonic() - started)
        assert finished.status == status, finished
        assert "Traceback" not in finished.err
        return finished

    def peak(self, *arguments: Any, **options: Any) -> int:
        """Run it to its end, and return how many bytes of memory it has taken at most."""
        finished = self(*arguments, python=("-c", MEASURED), **options)
        return int(finished.err) * 1024

    def start(
        self,
        *arguments: Any,
        url: str | None = None,
        auth: str | None = "alice:secret",
        python: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Run it in the background."""
        through = (*options.pop("through", ()), sys.executable, *python)
        command = [*through, *self._command(*arguments, url=url, auth=auth)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        environ = {**os.environ, **options.pop("environ", {})}
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            cwd=self._folder,
            env=environ,
            encoding="utf-8",
            **options,
        )

    def _command(
        self, *arguments: Any, url: str | None = None, auth: str | None = "alice:secret"
    ) -> list[str]:
        command = [
            *(self._path, "--server", url or self._kinto.url),
            *(() if auth is None else ("--auth", auth)),
            *("--bucket", self._kinto.bucket, "--collection", self._kinto.collection),
            *arguments,
        ]
        return [os.fspath(argument) for argument in command]


def record_id(name: str) -> str:
    """The id that a file's record has."""
    return str(uuid.UUID(hashlib.md5(name.encode()).hexdigest()))  # noqa: S324


@pytest.fixture(scope="session")
def session_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with FileServer(tmp_path_factory.mktemp("scripts") / "files") as server:
        yield server


@pytest.fixture
def files(session_files: FileServer) -> Iterator[FileServer]:
    """Where the attachments are downloaded from: another server than Kinto."""
    session_files.reset()
    yield session_files
    session_files.reset()


@pytest.fixture(scope="session")
def settings(session_files: FileServer) -> dict[str, Any]:
    """The settings of a Kinto whose files ``session_files`` serves."""
    return {
        "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the tests",
        "kinto.paginate_by": "2",
        "kinto.batch_max_requests": "1000",
        "kinto.attachment.base_path": str(session_files.path_of("")),
        "kinto.attachment.base_url": f"{session_files.url}files/",
        "kinto.attachment.serve_files": "true",
        "kinto.attachment.resources.small.max_size_bytes": "1000",
    }


@pytest.fixture(scope="session")
def session_kinto(settings: dict[str, Any]) -> Iterator[LiveKinto]:
    with LiveKinto(settings) as kinto:
        yield kinto


@pytest.fixture(scope="session")
def session_proxy(session_kinto: LiveKinto) -> Iterator[Proxy]:
    with Proxy(session_kinto.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(session_proxy: Proxy) -> Iterator[Proxy]:
    """Another way to Kinto, on which one sees what happens."""
    session_proxy.reset()
    yield session_proxy
    session_proxy.reset()


@pytest.fixture
def kinto(session_kinto: LiveKinto) -> Kinto:
    return Kinto(session_kinto.url, f"test-{next(_numbers)}")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """The folder that ``upload`` is run in."""
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The folder that ``download`` is run in, and writes to."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.fixture
def upload(kinto: Kinto, local: Path) -> Script:
    return Script("upload.py", kinto, local)


@pytest.fixture
def download(kinto: Kinto, target: Path) -> Script:
    return Script("download.py", kinto, target)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait

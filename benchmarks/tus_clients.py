"""Programs of others that speak tus: two clients, and a server to compare with. And the plainest
client: one PATCH."""

from __future__ import annotations

import base64
import json
import subprocess
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tusclient.client import TusClient
from typing_extensions import Self

from benchmarks.client import AUTHORIZATION, MIB, timed
from benchmarks.measure import peak
from tests.support.clients.downloads import NODE, Downloads

CHUNK = 5 * MIB
TUS_JS_CLIENT = "4.3.1"
TUS_SERVER = "2.4.5"
FILE_STORE = "2.1.1"

_SCRIPTS = Path(__file__).resolve().parent / "node"
_HEADERS = {"Authorization": AUTHORIZATION}


class Packages:
    """The packages of npm's, downloaded once and kept in ``folder``.

    Its methods raise ``RuntimeError`` if one cannot be downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self._downloads = Downloads(folder, _refuse)

    def client(self) -> Path:
        return self._downloads.npm_with_dependencies("tus-js-client", TUS_JS_CLIENT)

    def server(self) -> Path:
        return self._downloads.npm_with_dependencies("@tus/server", TUS_SERVER)

    def file_store(self) -> Path:
        return self._downloads.npm_with_dependencies("@tus/file-store", FILE_STORE)


class TusServer:
    """``@tus/server`` with its file store, which syncs nothing. A context manager."""

    def __init__(self, packages: Packages, folder: Path) -> None:
        """Files are stored in ``folder``."""
        self._folder = folder
        command = [str(NODE), str(_SCRIPTS / "server.js")]
        arguments = [str(packages.server()), str(packages.file_store()), str(folder)]
        self._process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None:
            raise RuntimeError("no output")
        self.url = self._process.stdout.readline().strip()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def peak(self) -> int:
        """The most memory that it has taken, in bytes."""
        return peak(self.pid)

    def remove_files(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def send_in_one_patch(url: str, path: Path) -> float:
    """How many seconds an upload takes that sends everything in one request after its creation."""
    headers = {**_HEADERS, "Tus-Resumable": "1.0.0"}
    name = base64.b64encode(path.name.encode()).decode()

    def send() -> None:
        length = str(path.stat().st_size)
        announced = {"Upload-Length": length, "Upload-Metadata": f"filename {name}"}
        created = _request("POST", url, b"", {**headers, **announced})
        content = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": length,
            "Upload-Offset": "0",
        }
        with path.open("rb") as file:
            _request("PATCH", created.headers["Location"], file, {**headers, **content})

    return timed(send)


def _request(method: str, url: str, body: Any, headers: dict[str, str]) -> HTTPResponse:
    """Raises ``RuntimeError`` if the answer is no success."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, blocksize=MIB)
    with closing(connection):
        connection.request(method, parts.path, body, headers)
        response = connection.getresponse()
        if response.status >= 300:
            raise RuntimeError(f"{method} {url}: {response.status} {response.read(500)!r}")
        # Else the connection stays, and gunicorn's only worker waits for two seconds for another
        # request on it.
        response.read()
        return response


def send_with_tuspy(url: str, path: Path) -> float:
    """Create an upload at ``url``, and send a file; how many seconds that takes."""
    with path.open("rb") as stream:
        uploader = TusClient(url, headers=_HEADERS).uploader(
            file_stream=stream, chunk_size=CHUNK, metadata={"filename": path.name}
        )
        return timed(uploader.upload)


def send_with_tus_js_client(url: str, path: Path, package: Path) -> float:
    """The same with ``package``, in Node.js, whose start does not count."""
    options = {
        "endpoint": url,
        "headers": _HEADERS,
        "chunkSize": CHUNK,
        "metadata": {"filename": path.name},
    }
    arguments = json.dumps({"client": str(package), "path": str(path), "options": options})
    command = [str(NODE), str(_SCRIPTS / "client.js"), arguments]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(finished.stdout)


def _refuse(reason: str) -> NoReturn:
    raise RuntimeError(reason)

"""What the machine can do at best: receive on loopback, SHA-256, write and fsync, nothing else.

``python -m benchmarks.limit FOLDER`` is a process that does so for each connection, and prints
the port that it listens on.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from benchmarks.client import blocks, timed

_CHUNK = 256 * 1024
_LENGTH_BYTES = 8


class Limit:
    """The process, and what it takes to send it a file."""

    def __init__(self, folder: Path) -> None:
        """Files are written to ``folder``, and removed again."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.limit", str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout is None:
            raise RuntimeError("no output")
        self._port = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        return self._process.pid

    def seconds(self, size: int) -> float:
        """How long it takes until ``size`` bytes are received, hashed and durable."""
        return timed(lambda: self._send(size))

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

    def _send(self, size: int) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(size.to_bytes(_LENGTH_BYTES, "big"))
            for block in blocks(size):
                connection.sendall(block)
            if len(connection.recv(64)) != hashlib.sha256().digest_size:
                raise RuntimeError("the process that receives has failed")


def _serve(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                _receive(connection, folder)


def _receive(connection: socket.socket, folder: Path) -> None:
    rest = int.from_bytes(connection.recv(_LENGTH_BYTES, socket.MSG_WAITALL), "big")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    fd, name = tempfile.mkstemp(dir=folder)
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        while rest:
            chunk = buffer[: connection.recv_into(buffer)]
            if not chunk:
                raise ConnectionError("the body ended early")
            rest -= len(chunk)
            digest.update(chunk)
            os.write(fd, chunk)
        os.fsync(fd)
        os.fsync(folder_fd)
        connection.sendall(digest.digest())
    finally:
        os.close(folder_fd)
        os.close(fd)
        Path(name).unlink()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))

"""Stands between clients and a PostgreSQL server, and can lose the answer to a COMMIT."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from typing_extensions import Self

from tests.support.servers.postgresql import PostgreSQL

# https://www.postgresql.org/docs/current/protocol-message-formats.html: "Query", its length with
# the four bytes that tell it, and the text.
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_SOCKET = ".s.PGSQL.5432"
_CHUNK = 64 * 1024


class Relay:
    """Hands on what clients of the Unix socket in ``directory`` and ``server`` tell each other."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = str(server.directory / _SOCKET)
        # Not pytest's: the path of a socket has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="test-relay-"))
        self.lost = threading.Event()
        """Set once an answer was lost."""
        self._losing = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / _SOCKET))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def lose_the_answer_to_the_next_commit(self) -> None:
        """The server commits, and the client's connection is gone before it gets to know."""
        self.lost.clear()
        self._losing.set()

    def stop(self) -> None:
        # Closing alone would not wake the thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        last = threading.Event()
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            arguments = (server, client, last)
            answers = threading.Thread(target=self._answer, args=arguments, daemon=True)
            answers.start()
            try:
                while question := client.recv(_CHUNK):
                    if question.endswith(_COMMIT) and self._losing.is_set():
                        self._losing.clear()
                        last.set()
                    server.sendall(question)
            finally:
                # Also of a client that was killed: its transaction would go on for ever.
                _shut(server)
                answers.join()

    def _answer(self, server: socket.socket, client: socket.socket, last: threading.Event) -> None:
        with suppress(OSError):
            while chunk := server.recv(_CHUNK):
                if last.is_set():
                    self.lost.set()
                    break
                client.sendall(chunk)
        _shut(client)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

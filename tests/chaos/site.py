"""Two servers of two processes, with their database and their store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.chaos.stores import STORES
from tests.support.live.verifier import BASE_URL
from tests.support.servers.kinto import LiveKinto, ini, kinto_migrate
from tests.support.servers.ports import free_port
from tests.support.servers.postgresql import PostgreSQL
from tests.support.servers.relay import Relay

UPLOADS_EXPIRE = 40.0
"""Seconds after which a resumable upload that rests is terminated."""

_DATABASE = "chaos"
_START_SECONDS = 90.0
_COMMAND_SECONDS = 60.0

_ACTIVITY = """
SELECT pid, now() - xact_start AS since, state, wait_event_type, wait_event,
       pg_blocking_pids(pid) AS blocked_by, left(regexp_replace(query, '\\s+', ' ', 'g'), 300)
  FROM pg_stat_activity
 WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
 ORDER BY xact_start
"""

_SETTINGS = {
    "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
    "kinto.multiauth.policies": "basicauth",
    "kinto.userid_hmac_secret": "of the tests",
    "kinto.storage_backend": "kinto.core.storage.postgresql",
    "kinto.storage_pool_size": "8",
    "kinto.storage_max_overflow": "2",
    "kinto.permission_backend": "kinto.core.permission.postgresql",
    "kinto.cache_backend": "kinto.core.cache.postgresql",
    "kinto.cache_pool_size": "2",
    "kinto.cache_max_overflow": "2",
    "kinto.attachment.base_url": BASE_URL,
    "kinto.attachment.folder": "{bucket_id}/{collection_id}",
    "kinto.attachment.uploads.expires": f"{UPLOADS_EXPIRE:.0f}s",
    "kinto.attachment.resources.named.randomize": "false",
}


class Database:
    """What ``verifier`` reads, over a new connection each time: the server comes and goes."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = self._server.connect(_DATABASE)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        finally:
            connection.close()


class Node:
    """One of the servers, always on the same port. Its logs are kept in ``logs``."""

    def __init__(
        self, name: str, settings: dict[str, Any], prefix: tuple[str, ...], logs: Path
    ) -> None:
        self.name = name
        self.port = free_port()
        self._settings = settings
        self._python = (*prefix, sys.executable)
        self._logs = logs
        self._starts = 0
        self._server: LiveKinto | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/"

    def start(self) -> None:
        """Start it, again and again: what it needs may be away just now."""
        deadline = time.monotonic() + _START_SECONDS
        while self._server is None:
            try:
                self._server = LiveKinto(
                    self._settings,
                    "gunicorn",
                    workers=2,
                    worker_class="gthread",
                    threads=8,
                    python=self._python,
                    port=self.port,
                )
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        self._starts += 1
        # The server removes its log when it stops, but not this name of it.
        os.link(self._server.log, self._logs / f"{self.name}-{self._starts:03}.log")

    def stop(self) -> None:
        """As an operator does."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def kill(self) -> None:
        """All of its processes."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def kill_worker(self, rng: random.Random) -> None:
        """One of them; the server starts another one."""
        if self._server is not None:
            # It may have ended just now.
            with suppress(OSError):
                _, *workers = self._server.pids()
                if workers:
                    os.kill(rng.choice(workers), signal.SIGKILL)


class Site:
    """All of it, running once the constructor returns."""

    def __init__(self, store: str, logs: Path) -> None:
        self.logs = logs
        with ExitStack() as stack:
            self.postgresql = stack.enter_context(PostgreSQL(durable=True))
            self.database = Database(self.postgresql)
            self.relay = stack.enter_context(Relay(self.postgresql))
            self.store = STORES[store]()
            stack.callback(self.store.close)
            self.postgresql.create_database(_DATABASE)
            # What the servers hear from the database can be lost.
            url = self.relay.url_of(_DATABASE)
            urls = {f"kinto.{of}_url": url for of in ("storage", "permission", "cache")}
            settings = {**_SETTINGS, **urls, **self.store.settings}
            kinto_migrate(settings, python=(*self.store.prefix, sys.executable))
            self._ini = logs / "kinto.ini"
            self._ini.write_text(ini(settings, 0))
            self.nodes = [
                Node(name, settings, self.store.prefix, logs) for name in ("first", "second")
            ]
            for node in self.nodes:
                stack.callback(node.kill)
                node.start()
            self._stack = stack.pop_all()

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """PostgreSQL is stopped hard; it recovers afterwards."""
        self.postgresql.crash()
        try:
            yield
        finally:
            self.postgresql.start()

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run ``kinto-attachment``; return its exit status, and what it printed.

        One that does not end is killed, with a status of -1, and what it waited for.
        """
        with subprocess.Popen(
            [
                *(*self.store.prefix, sys.executable, "-W", "ignore"),
                *("-m", "kinto_attachment.commands", "--ini", str(self._ini), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                output, _ = process.communicate(timeout=_COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                activity = self.activity()
                process.kill()
                return -1, f"{process.communicate()[0]}\n{activity}"
            except BaseException:
                process.kill()
                raise
            return process.returncode, output

    def activity(self) -> str:
        """What the database is doing, for people."""
        rows = self.database.execute(_ACTIVITY)
        return "\n".join(" ".join(map(str, row)) for row in rows)

    def close(self) -> None:
        """Stop everything. May be called again."""
        self._stack.close()

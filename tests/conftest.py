"""Kinto with the plugin for the tests, in this process (``make_app``) or in another
(``live_kinto``). A test that uses one of them runs twice: with its objects in memory, and in
PostgreSQL (``backend``).
"""

from __future__ import annotations

import functools
import gc
import itertools
import shutil
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import kinto
import pytest
import transaction
import webtest
from kinto.core.cornice.service import SERVICES, Service
from kinto.core.scripts import migrate
from kinto.core.storage.postgresql.client import _CLIENTS

from tests.support.servers.ended import mark_all_that_starts
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.postgresql import PostgreSQL
from tests.support.servers.s3 import MotoServer, S3Server, SeaweedServer

# What these find missing should be shown, as it is for tests.
pytest.register_assert_rewrite("tests.support.inventory", "tests.support.live")

pytest_plugins = [
    # Before "groups", which imports it.
    *("tests.support.parts", "tests.support.groups"),
    *("tests.support.left_out", "tests.support.measured", "tests.support.starts"),
]

Settings = dict[str, Any]

# Created in every session with Kinto's tables, and copied where a test wants a database.
TEMPLATE = "kinto_template"

# A lock that a test has left behind should fail the test, not stop the suite.
CLEAN = """
SET lock_timeout = '5s';
DELETE FROM objects;
DELETE FROM timestamps;
DELETE FROM user_principals;
DELETE FROM access_control_entries;
DELETE FROM metadata WHERE name = 'kinto_attachment_taken_over';
"""


def pytest_configure() -> None:
    """Of the servers that tests start none outlives this process."""
    mark_all_that_starts()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half of the time would go to looking for garbage among what is made here to stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class KintoApp(webtest.TestApp):
    """Kinto in this process, as one user sees it. Paths have the ``/v1``."""

    def __init__(self, app: Any, user: str | None = "alice") -> None:
        super().__init__(app)
        if user is not None:
            self.authorization = ("Basic", (user, "secret"))

    @property
    def registry(self) -> Any:
        """Pyramid's registry: ``storage``, ``permission``, ``settings``..."""
        return self.app.registry

    @property
    def userid(self) -> str:
        """The user as permissions name it: ``basicauth:...``."""
        userid: str = self.get("/v1/").json["user"]["id"]
        return userid

    def as_user(self, user: str | None) -> KintoApp:
        """The same Kinto as another user sees it; ``None`` is an anonymous one."""
        return KintoApp(self.app, user)


class KintoDatabase:
    """A database with Kinto's tables; ``settings`` are those of a Kinto that uses it."""

    def __init__(self, server: PostgreSQL, name: str, template: str = TEMPLATE) -> None:
        self.url = server.create_database(name, template)
        self.settings = _postgresql_settings(self.url)
        self._drop = functools.partial(server.drop_database, name)
        self._connection = server.connect(name)

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement behind Kinto's back, in a transaction of its own."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def clean(self) -> None:
        """Remove every object and permission. Gives up what this thread has not committed."""
        transaction.abort()
        self.execute(CLEAN)

    def close(self) -> None:
        """Drop the database."""
        _forget_clients()
        self._connection.close()
        self._drop()


def kinto_settings_with(
    base: Mapping[str, Any], attachment: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> Settings:
    """Kinto's settings: ``base``, changed by ``settings``, and by those of the plugin under their
    names without ``kinto.attachment.``. A value of ``None`` leaves the setting out."""
    ours = {f"kinto.attachment.{name}": value for name, value in (attachment or {}).items()}
    merged = {**base, **settings, **ours}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A program that a test interrupts hears it, also where a shell runs the tests in the
    background: they are then deaf to Ctrl-C, and what they start would be too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["memory", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Where Kinto keeps its objects and permissions."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="session")
def folder_of_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all the tests: an application that another test has started can be used again."""
    return tmp_path_factory.mktemp("kinto") / "files"


@pytest.fixture
def files(folder_of_files: Path) -> Iterator[Path]:
    """The folder where files are stored, which the plugin creates."""
    yield folder_of_files
    for folder in (folder_of_files, folder_of_files.with_name("files-private")):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kinto_settings(
    backend: str, request: pytest.FixtureRequest, files: Path
) -> Iterator[Settings]:
    """The settings of a Kinto with the plugin and no objects, files in the folder ``files``."""
    settings = _settings(files)
    if backend == "memory":
        yield settings
    else:
        database = request.getfixturevalue("kinto_database")
        yield {**settings, **database.settings}
        database.clean()


@pytest.fixture(scope="session")
def started_apps() -> dict[Any, KintoApp]:
    """The applications that were started, by their settings: a start takes 0.2 seconds."""
    return {}


@pytest.fixture
def make_app(
    kinto_settings: Settings, started_apps: dict[Any, KintoApp]
) -> Iterator[Callable[..., KintoApp]]:
    """``make_app(attachment={"folder": "{bucket_id}"}, **{"kinto.readonly": "true"})``: a Kinto
    with these settings, on top of ``kinto_settings``, which another test may have started. Several
    share the database."""
    used = []

    def make(attachment: Mapping[str, Any] | None = None, **settings: Any) -> KintoApp:
        merged = kinto_settings_with(kinto_settings, attachment, settings)
        key = frozenset(merged.items())
        if key not in started_apps:
            # Nor is there garbage among what stays: it is looked through once, and never again.
            gc.collect()
            started_apps[key] = _app(merged)
            gc.freeze()
        used.append(started_apps[key])
        return KintoApp(started_apps[key].app)

    yield make
    for app in used:
        registry = app.registry
        if "postgresql" not in registry.settings["storage_backend"]:
            registry.storage.flush()
            registry.permission.flush()
        registry.cache.flush()
    _forget_services()


@pytest.fixture
def start_app(kinto_settings: Settings) -> Iterator[Callable[..., KintoApp]]:
    """``make_app()``, where what happens at the start counts: each one is a new Kinto."""

    def start(attachment: Mapping[str, Any] | None = None, **settings: Any) -> KintoApp:
        return _app(kinto_settings_with(kinto_settings, attachment, settings))

    yield start
    _forget_services()


@pytest.fixture
def app(make_app: Callable[..., KintoApp]) -> KintoApp:
    """Kinto with the settings of ``kinto_settings``."""
    return make_app()


@pytest.fixture
def live_kinto(kinto_settings: Settings) -> Iterator[Callable[..., LiveKinto]]:
    """``live_kinto("gunicorn", workers=2, attachment={...}, settings={...})`` starts a Kinto in
    processes of its own (see ``LiveKinto``); it is stopped after the test."""
    started = []

    def start(
        server: str = "waitress",
        *,
        attachment: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> LiveKinto:
        merged = kinto_settings_with(kinto_settings, attachment, settings or {})
        started.append(LiveKinto(merged, server, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A PostgreSQL server. Its database ``TEMPLATE`` has Kinto's tables and those of plugins."""
    with PostgreSQL() as server:
        server.create_database(TEMPLATE)
        url = server.url_of(TEMPLATE)
        files = tmp_path_factory.mktemp("files")
        migrate({"registry": _app(_settings(files) | _postgresql_settings(url)).registry})
        _forget_clients()
        yield server


@pytest.fixture(scope="session")
def kinto_database(postgresql: PostgreSQL) -> Iterator[KintoDatabase]:
    """The database that the tests share, one after the other."""
    database = KintoDatabase(postgresql, "kinto")
    yield database
    database.close()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """The moto that the tests share, for what SeaweedFS does not have, or have in time."""
    with MotoServer() as server:
        yield server


@pytest.fixture
def moto(moto_server: S3Server) -> Iterator[S3Server]:
    """moto, with empty buckets."""
    yield moto_server
    moto_server.empty()


class _SeaweedOfTests(SeaweedServer):
    # Several processors do small requests no sooner, and take a third more of their time.
    environment = {"GOMAXPROCS": "1"}


@pytest.fixture(scope="session")
def seaweedfs_server() -> Iterator[S3Server]:
    """The SeaweedFS that the tests share."""
    with _SeaweedOfTests() as server:
        yield server


@pytest.fixture
def seaweedfs(seaweedfs_server: S3Server) -> Iterator[S3Server]:
    """SeaweedFS, with empty buckets."""
    yield seaweedfs_server
    seaweedfs_server.empty()


@pytest.fixture
def new_database(postgresql: PostgreSQL) -> Iterator[Callable[..., KintoDatabase]]:
    """``new_database()`` creates an empty database for this test alone, where Kinto opens
    connections of its own; ``settings`` of it go to ``make_app`` or ``live_kinto``. It may be a
    copy of another ``template``."""
    created = []

    def create(template: str = TEMPLATE) -> KintoDatabase:
        created.append(KintoDatabase(postgresql, f"kinto_{next(_numbers)}", template))
        return created[-1]

    yield create
    for database in created:
        database.close()


_numbers = itertools.count(1)


def _settings(files: Path) -> Settings:
    return {
        "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the tests",
        "kinto.experimental_collection_schema_validation": "true",
        "kinto.attachment.base_path": str(files),
        "kinto.attachment.base_url": "https://files.example.org/",
    }


def _postgresql_settings(url: str) -> Settings:
    return {
        "kinto.storage_backend": "kinto.core.storage.postgresql",
        "kinto.storage_url": url,
        "kinto.permission_backend": "kinto.core.permission.postgresql",
        "kinto.permission_url": url,
    }


def _app(settings: Settings) -> KintoApp:
    # A third of the time would go to looking for garbage among what is made here to stay.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return KintoApp(kinto.main({}, config=None, **settings))
    finally:
        if collecting:
            gc.enable()


def _forget_services() -> None:
    """Let go of the apps: Kinto lists the services of each one, and they hold 4 MB of it.

    The first of a name stays, since modules make some of them only once.
    """
    first: dict[str, Service] = {}
    for service in SERVICES:
        first.setdefault(service.name, service)
    SERVICES[:] = first.values()


def _forget_clients() -> None:
    """Close the connections that Kinto keeps, one pool for each URL, until the process ends."""
    transaction.abort()
    for clients in _CLIENTS.values():
        for client in clients.values():
            client.session_factory.remove()
            client.session_factory.session_factory.kw["bind"].dispose()
        clients.clear()

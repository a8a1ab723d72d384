"""How the migration runs, and what is said of it at the start."""

from __future__ import annotations

import threading
import time

import pytest
from kinto.core.scripts import migrate
from kinto.core.storage.exceptions import BackendError

from kinto_attachment.database import location_index
from kinto_attachment.migrations import pending_links

NAME = "one.txt"
SAYS = "earlier version"
FAIL = """
CREATE FUNCTION pg_temp.fail() RETURNS trigger AS
$$ BEGIN RAISE 'no space left'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER fail BEFORE INSERT ON objects FOR EACH ROW
WHEN (NEW.resource_name = 'attachments-holdings') EXECUTE PROCEDURE pg_temp.fail();
"""
LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_database AS database ON database.oid = pg_locks.database
 WHERE NOT granted AND relation = 'objects'::regclass AND datname = current_database()
"""

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
in_memory = pytest.mark.parametrize("backend", ["memory"], indirect=True)


@pytest.fixture
def make_app(start_app):
    """The plugin looks for what waits at every start."""
    return start_app


@pytest.fixture
def linked(earlier):
    """A record and its link."""
    earlier.show("c/r", earlier.store(NAME))
    earlier.link(NAME)
    return earlier


def versions(database):
    query = "SELECT value FROM metadata WHERE name = 'kinto_attachment_schema_version'"
    return [value for (value,) in database.execute(query)]


@on_postgresql
def test_a_dry_run_writes_nothing(linked, caplog):
    caplog.set_level("INFO")
    before = linked.objects()

    linked.migrate(dry_run=True)

    assert "1 links: 1 files, held by 1 records." in caplog.text
    assert linked.objects() == before
    linked.migrate()
    assert linked.waiting == 0


@on_postgresql
@pytest.mark.parametrize("installed", [None, "2"])
def test_the_version_is_remembered_once(new_database, make_app, installed):
    database = new_database()
    database.execute("DELETE FROM metadata WHERE name = 'kinto_attachment_schema_version'")
    if installed:
        database.execute(
            "INSERT INTO metadata VALUES ('kinto_attachment_schema_version', %s)", installed
        )
    registry = make_app(**database.settings).registry

    migrate({"registry": registry}, dry_run=True)
    assert versions(database) == ([installed] if installed else [])
    for _ in range(2):
        migrate({"registry": registry})

    assert versions(database) == ([installed, "4"] if installed else ["4"])


@on_postgresql
def test_nothing_is_taken_over_in_readonly_mode(linked, make_app, caplog):
    linked.migrate(make_app(**{"kinto.readonly": "true"}))

    assert linked.waiting == 1
    assert "readonly mode" in caplog.text


@on_postgresql
def test_all_or_nothing(linked, new_database):
    before = linked.objects()
    linked.database.execute(FAIL)

    try:
        with pytest.raises(BackendError, match="no space left"):
            linked.migrate()
    finally:
        linked.database.execute("DROP TRIGGER fail ON objects")

    assert linked.objects() == before
    assert linked.waiting == 1


@on_postgresql
@pytest.mark.parametrize("dry_run", [True, False])
def test_without_transactions_of_requests(make_earlier, dry_run):
    earlier = make_earlier(**{"kinto.transaction_per_request": "false"})
    earlier.show("c/r", earlier.store(NAME))
    earlier.link(NAME)

    earlier.migrate(dry_run=dry_run)

    assert earlier.waiting == int(dry_run)
    assert (earlier.row(NAME) is None) is dry_run


@on_postgresql
def test_who_writes_first_is_waited_for(linked, postgresql):
    """And what is written then counts; others can read meanwhile."""
    writer = postgresql.connect("kinto")
    migration = threading.Thread(target=linked.migrate)
    try:
        with writer.cursor() as cursor:
            cursor.execute("BEGIN; UPDATE objects SET data = '{}' WHERE resource_name = 'record'")
            migration.start()
            deadline = time.monotonic() + 20
            while linked.database.execute(LOCKS) == [(0,)]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert linked.data("c/r")["attachment"]["size"] == 7
            cursor.execute("COMMIT")
        migration.join(timeout=20)
    finally:
        writer.close()

    assert not migration.is_alive()
    assert linked.waiting == 0
    assert linked.row(NAME) is None
    assert linked.holding("c/r") is None


@on_postgresql
def test_the_log_says_at_every_start_how_many_links_wait(linked, make_app, caplog):
    for _ in range(2):
        caplog.clear()
        make_app(**{"kinto.project_name": "another start"})
        assert f"1 attachments of an {SAYS}" in caplog.text

    linked.migrate()
    caplog.clear()
    make_app(**{"kinto.project_name": "another start"})
    assert SAYS not in caplog.text


@on_postgresql
def test_a_file_of_a_waiting_link_is_not_deleted(linked):
    linked.patch("c/r", attachment=None)
    linked.delete("c/r")

    assert linked.has(NAME)


@on_postgresql
def test_a_start_before_there_are_tables(postgresql, new_database, make_app, caplog):
    settings = new_database("template1").settings

    registry = make_app(**settings).registry
    migrate({"registry": registry}, dry_run=True)

    assert pending_links(registry.storage) == 0
    assert SAYS not in caplog.text


@on_postgresql
def test_a_start_without_a_database(tmp_path, make_app, caplog):
    url = f"postgresql://postgres@/kinto?host={tmp_path}"

    app = make_app(**{"kinto.storage_url": url})

    assert "is not known" in caplog.text
    assert app.get("/v1/").status_code == 200
    with pytest.raises(BackendError):
        pending_links(app.registry.storage)


@in_memory
def test_nothing_waits_in_memory(app, caplog):
    migrate({"registry": app.registry})

    assert pending_links(app.registry.storage) == 0
    assert SAYS not in caplog.text


@on_postgresql
def test_an_index_that_cannot_be_created_does_not_stop_the_migration(linked, monkeypatch, caplog):
    def fail(client):
        raise BackendError(original=Exception("canceling statement due to lock timeout"))

    monkeypatch.setattr(location_index, "create", fail)

    linked.migrate()

    assert linked.waiting == 0
    assert "run kinto migrate again" in caplog.text

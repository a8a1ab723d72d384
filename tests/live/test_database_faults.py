"""A database that fails at the commit, or is gone, and a subscriber that raises before it.

The same with parts of the database made up, and more of them, is in
``tests/database/test_transactions.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import KintoDatabase
from tests.live.conftest import Settings
from tests.support.live.client import at_once, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop
from tests.support.live.verifier import LocalFiles
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.postgresql import PostgreSQL
from tests.support.servers.relay import Relay

URI = uri_of("c")
NEW = uri_of("c", "new")
FIRST = b"first"

# At the commit, as the schemas of some plugins and operators do.
FAILING_COMMIT = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE 'this record must not be committed'; END $$;
CREATE CONSTRAINT TRIGGER fail AFTER INSERT OR UPDATE ON objects
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (NEW.data ->> 'title' = 'doomed') EXECUTE FUNCTION fail();
"""
WORKING_COMMIT = "DROP TRIGGER fail ON objects; DROP FUNCTION fail();"

# Sessions that have written something and not committed yet.
TERMINATE_WRITERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
"""


@pytest.fixture
def failing_commit(database: KintoDatabase) -> Iterator[None]:
    """Records with the title ``doomed`` cannot be committed."""
    database.execute(FAILING_COMMIT)
    yield
    database.execute(WORKING_COMMIT)


@pytest.fixture(autouse=True)
def _a_record(site: Site) -> None:
    """In every site there is a record with a file already."""
    site.client.create_collections("c")
    site.client.attach(URI, FIRST).raise_for_status()


def check_that_nothing_happened(site: Site) -> None:
    assert site.client.request("GET", NEW).status_code == 404
    site.assert_shows(URI, FIRST)
    site.assert_consistent()


@pytest.mark.usefixtures("failing_commit")
@pytest.mark.parametrize("uri", [URI, NEW], ids=["replaced", "created"])
def test_a_commit_that_fails(site, uri):
    plain = site.client.request("PUT", uri_of("c", "plain"), {"data": {"title": "doomed"}})

    answer = site.client.attach(uri, b"second", title="doomed")

    assert answer.status_code == plain.status_code
    assert answer.status_code >= 500
    check_that_nothing_happened(site)


@pytest.mark.usefixtures("failing_commit")
def test_a_commit_that_fails_takes_no_file_from_a_record(site):
    body = {"data": {"title": "doomed", "attachment": None}}

    assert site.client.request("PATCH", URI, body).status_code >= 500

    check_that_nothing_happened(site)


@pytest.mark.parametrize("uri", [URI, NEW], ids=["replaced", "created"])
def test_a_subscriber_that_raises(site, uri):
    answer = site.client.attach(uri, b"second", headers={"Fail-At": "written"})

    assert answer.status_code == 500
    check_that_nothing_happened(site)


@pytest.mark.parametrize(
    ("method", "uri", "body"),
    [
        ("DELETE", f"{URI}/attachment", None),
        ("PATCH", URI, {"data": {"attachment": None}}),
        ("DELETE", URI, None),
        ("DELETE", "buckets/b/collections/c/records", None),
        ("DELETE", "buckets/b/collections/c", None),
        ("DELETE", "buckets/b", None),
    ],
)
def test_a_subscriber_that_raises_takes_no_file_from_a_record(site, method, uri, body):
    answer = site.client.request(method, uri, body, headers={"Fail-At": "written"})

    assert answer.status_code == 500
    check_that_nothing_happened(site)


@pytest.mark.parametrize("uri", [URI, NEW], ids=["replaced", "created"])
def test_a_connection_that_is_lost_before_the_commit(site, uri):
    """From the server's side this may have been the commit: it asks, and does it again."""
    with Stop("written") as stop:

        def terminate() -> None:
            stop.wait()
            assert site.database.execute(TERMINATE_WRITERS) == [(True,)]
            stop.go_on()

        answer, _ = at_once(
            lambda: site.client.attach(uri, b"second", headers=stop.headers), terminate
        )

    assert answer.status_code == (200 if uri == URI else 201)
    site.assert_shows(uri, b"second")
    assert site.leftovers() == []
    site.assert_consistent()


@pytest.fixture(scope="module")
def relay(postgresql: PostgreSQL) -> Iterator[Relay]:
    with Relay(postgresql) as relay:
        yield relay


@pytest.fixture(scope="module")
def the_relayed_site(
    live_settings: Settings,
    database: KintoDatabase,
    relay: Relay,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("relayed") / "files"
    url = relay.url_of("live")
    settings = {
        **live_settings,
        "kinto.storage_url": url,
        "kinto.permission_url": url,
        "kinto.attachment.base_path": str(folder),
    }
    site = Site(lambda: LiveKinto(settings, "gunicorn"), database, LocalFiles(folder))
    yield site
    site.close()


@pytest.fixture
def relayed_site(the_relayed_site: Site) -> Site:
    """Its connections to the database can be lost."""
    the_relayed_site.clean()
    return the_relayed_site


@pytest.mark.parametrize("site", ["relayed_site"], indirect=True)
@pytest.mark.parametrize("uri", [URI, NEW], ids=["replaced", "created"])
def test_a_commit_whose_answer_is_lost(site, relay, uri):
    """The record shows the new file: that is the success. The previous file is left over, since
    the transaction's hooks are told that it has failed."""
    relay.lose_the_answer_to_the_next_commit()

    answer = site.client.attach(uri, b"second")

    assert relay.lost.is_set()
    assert answer.status_code == (200 if uri == URI else 201)
    site.assert_shows(uri, b"second")
    assert len(site.leftovers()) == (1 if uri == URI else 0)
    site.assert_consistent(site.leftovers())

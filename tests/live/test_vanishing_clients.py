"""Clients that vanish half way, from a server that hands the body on as it comes (gunicorn), and
from one that waits for all of it (waitress).

With one worker process and thread, and also without a database: ``tests/live/test_uploads.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import KintoDatabase
from tests.live.conftest import Settings
from tests.support.live.client import KIB, MIB, Upload, at_once, uri_of
from tests.support.live.site import Site
from tests.support.live.stops import Stop
from tests.support.live.verifier import LocalFiles
from tests.support.live.waiting import wait_for
from tests.support.servers.kinto import LiveKinto

URI = uri_of("c")
FIRST = b"first"
SECOND = b"second--" * (6 * MIB // 8)
# On S3, a part of the file is there by then.
SENT = 5 * MIB + 512 * KIB

Vanish = Callable[[Upload], None]


def half_close(upload: Upload) -> None:
    """The server can still answer, and says what is wrong."""
    upload.half_close()
    assert upload.status() == 400


@pytest.fixture(params=[Upload.reset, half_close], ids=["reset", "half-close"])
def vanish(request: pytest.FixtureRequest) -> Vanish:
    vanish: Vanish = request.param
    return vanish


@pytest.fixture(autouse=True)
def _a_record(site: Site) -> None:
    """In every site there is a record with a file already."""
    site.client.create_collections("c")
    site.client.attach(URI, FIRST).raise_for_status()


def check_that_nothing_happens(site: Site) -> None:
    wait_for(lambda: site.leftovers() == [])
    site.assert_shows(URI, FIRST)
    site.assert_consistent()


@pytest.mark.parametrize("uri", [URI, uri_of("c", "new")], ids=["replaced", "created"])
def test_half_way(site, vanish, uri):
    upload = site.client.begin(uri, SECOND, SENT)
    wait_for(lambda: len(site.leftovers()) == 1)

    vanish(upload)

    check_that_nothing_happens(site)
    assert site.client.request("GET", uri_of("c", "new")).status_code == 404


def test_half_way_through_the_default_bucket(site, vanish):
    upload = site.client.begin("buckets/default/collections/new/records/r", SECOND, SENT)
    wait_for(lambda: len(site.leftovers()) == 1)

    vanish(upload)

    check_that_nothing_happens(site)
    made = "SELECT id FROM objects WHERE resource_name = 'collection' AND id = 'new'"
    assert site.database.execute(made) == []


def test_eight_at_once(site):
    uploads = [site.client.begin(uri_of("c", f"r{number}"), SECOND, SENT) for number in range(8)]
    wait_for(lambda: len(site.leftovers()) == len(uploads))

    at_once(*(upload.reset for upload in uploads))

    check_that_nothing_happens(site)


@pytest.mark.parametrize("step", ["complete", "written", "committed"])
def test_before_the_answer(site, step):
    """Everything was sent: the upload succeeds, whoever hears of it."""
    with Stop(step) as stop:
        upload = site.client.begin(URI, SECOND, SENT, headers=stop.headers)
        upload.send_rest()
        stop.wait()
        upload.reset()
        stop.go_on()
        wait_for(lambda: site.client.record(URI)["attachment"]["size"] == len(SECOND))

    wait_for(lambda: site.leftovers() == [])
    site.assert_shows(URI, SECOND)
    site.assert_consistent()


@pytest.fixture(scope="module")
def the_waitress_site(
    live_settings: Settings, database: KintoDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("waitress") / "files"
    settings = {**live_settings, "kinto.attachment.base_path": str(folder)}
    site = Site(lambda: LiveKinto(settings, "waitress"), database, LocalFiles(folder))
    yield site
    site.close()


@pytest.fixture
def waitress_site(the_waitress_site: Site) -> Site:
    the_waitress_site.clean()
    return the_waitress_site


@pytest.mark.parametrize("site", ["waitress_site"], indirect=True)
def test_half_way_to_waitress(site):
    """Kinto is not told at all."""
    kept = site.client.begin(URI, SECOND, SENT)
    site.client.begin(URI, SECOND, SENT).reset()
    kept.half_close()

    # The connection ends without an answer.
    assert kept.status() == 0
    check_that_nothing_happens(site)


@pytest.mark.parametrize("site", ["waitress_site"], indirect=True)
def test_before_the_answer_of_waitress(site):
    with Stop("written") as stop:
        upload = site.client.begin(URI, SECOND, SENT, headers=stop.headers)
        upload.send_rest()
        stop.wait()
        upload.reset()
        stop.go_on()
        wait_for(lambda: site.client.record(URI)["attachment"]["size"] == len(SECOND))

    wait_for(lambda: site.leftovers() == [])
    site.assert_shows(URI, SECOND)
    site.assert_consistent()

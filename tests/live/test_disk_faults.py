"""A disk that is full, and one that is read-only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import KintoDatabase
from tests.live.conftest import Settings
from tests.support.live.answers import check_that_storage_is_unavailable
from tests.support.live.client import KIB, MIB, uri_of
from tests.support.live.site import Site
from tests.support.live.verifier import LocalFiles
from tests.support.servers.disk import SmallDisk
from tests.support.servers.kinto import LiveKinto

URI = uri_of("c")
FIRST = b"first" * (100 * KIB)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> SmallDisk:
    """Of 2 MiB."""
    try:
        return SmallDisk(tmp_path_factory.mktemp("disk"), 2 * MIB)
    except RuntimeError as error:
        reason = f"{error}: run as root with CAP_SYS_ADMIN, or allow user namespaces"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def site_on_disk(
    live_settings: Settings, disk: SmallDisk, database: KintoDatabase
) -> Iterator[Site]:
    settings = {**live_settings, "kinto.attachment.base_path": str(disk.path)}
    site = Site(
        lambda: LiveKinto(settings, "gunicorn", python=(*disk.wrapper, sys.executable)),
        database,
        lambda server: LocalFiles(disk.folder(server.pid)),
    )
    yield site
    site.close()


@pytest.fixture
def site(site_on_disk: Site) -> Site:
    """With a file of 500 KiB."""
    site_on_disk.clean()
    site_on_disk.client.create_collections("c")
    site_on_disk.client.attach(URI, FIRST).raise_for_status()
    return site_on_disk


@pytest.fixture
def read_only(site: Site, disk: SmallDisk) -> Iterator[None]:
    disk.remount(site.server.pid, "ro")
    yield
    disk.remount(site.server.pid, "rw")


@pytest.mark.parametrize("uri", [URI, uri_of("c", "new")], ids=["replaced", "created"])
def test_a_disk_that_is_full_is_told_and_nothing_is_lost(site, uri):
    check_that_storage_is_unavailable(site.client.attach(uri, b"x" * 3 * MIB))

    site.assert_shows(URI, FIRST)
    site.assert_consistent()


def test_what_did_not_fit_leaves_its_room_to_others(site):
    for _ in range(3):
        check_that_storage_is_unavailable(site.client.attach(URI, b"x" * 3 * MIB))

    assert site.client.attach(URI, b"x" * MIB).status_code == 200
    site.assert_shows(URI, b"x" * MIB)
    site.assert_consistent()


def test_through_the_default_bucket_nothing_is_made_on_a_full_disk(site):
    collection = "buckets/default/collections/new"

    answer = site.client.attach(f"{collection}/records/r", b"x" * 3 * MIB)

    check_that_storage_is_unavailable(answer)
    made = "SELECT id FROM objects WHERE resource_name = 'collection' AND id = 'new'"
    assert site.database.execute(made) == []
    site.assert_consistent()


@pytest.mark.usefixtures("read_only")
def test_a_disk_that_is_read_only_is_told_and_nothing_is_lost(site):
    check_that_storage_is_unavailable(site.client.attach(URI, b"second"))

    site.assert_shows(URI, FIRST)
    site.assert_consistent()


@pytest.mark.usefixtures("read_only")
def test_on_a_disk_that_is_read_only_a_file_is_left_and_its_record_is_not(site):
    assert site.client.request("DELETE", URI).status_code == 200

    assert "left for gc" in site.log()
    (leftover,) = site.leftovers()
    site.assert_consistent([leftover])

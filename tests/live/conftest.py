"""The Kintos that these tests share: two worker processes under gunicorn, with PostgreSQL, and
files on the local disk (``local_site``), on S3 (``s3_site``), or on what plays Google Cloud
Storage (``gcs_site``); ``site`` is each of the first two in turn.

In the bucket ``named`` files keep their names. A worker has no more than five connections to the
database, and more threads than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KintoDatabase
from tests.support.live.proxy import S3Proxy
from tests.support.live.site import Site
from tests.support.live.verifier import BASE_URL, GCloudFiles, LocalFiles, S3Files
from tests.support.servers.gcs import GcsServer
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.postgresql import PostgreSQL
from tests.support.servers.s3 import S3Server

Settings = dict[str, Any]

SERVER: dict[str, Any] = {"workers": 2, "worker_class": "gthread", "threads": 24}

_SETTINGS = {
    "kinto.includes": "kinto.plugins.default_bucket kinto_attachment tests.support.live.stops",
    "kinto.multiauth.policies": "basicauth",
    "kinto.userid_hmac_secret": "of the tests",
    "kinto.storage_pool_size": "5",
    "kinto.storage_max_overflow": "0",
    "kinto.permission_pool_size": "5",
    "kinto.permission_max_overflow": "0",
    "kinto.attachment.base_url": BASE_URL,
    "kinto.attachment.resources.named.randomize": "false",
}


@pytest.fixture(scope="package")
def database(postgresql: PostgreSQL) -> Iterator[KintoDatabase]:
    """The database of all the sites: a test uses one of them."""
    database = KintoDatabase(postgresql, "live")
    # PostgreSQL looks for deadlocks after a second of waiting.
    database.execute("ALTER DATABASE live SET deadlock_timeout = '50ms'")
    yield database
    database.close()


@pytest.fixture(scope="package")
def live_settings(database: KintoDatabase) -> Settings:
    """Kinto's settings, without the place of the files."""
    return {**_SETTINGS, **database.settings}


@pytest.fixture(scope="package")
def the_local_site(
    live_settings: Settings, database: KintoDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("live") / "files"
    settings = {**live_settings, "kinto.attachment.base_path": str(folder)}
    site = Site(lambda: LiveKinto(settings, "gunicorn", **SERVER), database, LocalFiles(folder))
    yield site
    site.close()


@pytest.fixture(scope="package")
def s3_proxy(seaweedfs_server: S3Server) -> Iterator[S3Proxy]:
    """What stands between Kinto and SeaweedFS."""
    with S3Proxy(seaweedfs_server) as proxy:
        yield proxy
    seaweedfs_server.empty()


@pytest.fixture
def seaweedfs(seaweedfs: S3Server) -> S3Server:
    """Without what the last test of the site has stored there."""
    seaweedfs.empty()
    return seaweedfs


@pytest.fixture(scope="package")
def the_s3_site(
    live_settings: Settings, database: KintoDatabase, s3_proxy: S3Proxy
) -> Iterator[Site]:
    settings = {**live_settings, **s3_proxy.settings}
    site = Site(
        lambda: LiveKinto(settings, "gunicorn", **SERVER), database, S3Files(s3_proxy.server)
    )
    yield site
    site.close()


@pytest.fixture(scope="package")
def the_gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture(scope="package")
def the_gcs_site(
    live_settings: Settings, database: KintoDatabase, the_gcs: GcsServer
) -> Iterator[Site]:
    # Resumable uploads to it are killed.
    includes = f"{live_settings['kinto.includes']} tests.support.live.leases"
    settings = {**live_settings, **the_gcs.settings, "kinto.includes": includes}
    site = Site(lambda: LiveKinto(settings, "gunicorn", **SERVER), database, GCloudFiles(the_gcs))
    yield site
    site.close()


@pytest.fixture
def local_site(the_local_site: Site) -> Site:
    """Nothing in it yet."""
    the_local_site.clean()
    return the_local_site


@pytest.fixture
def s3_site(the_s3_site: Site, s3_proxy: S3Proxy) -> Site:
    """Nothing in it yet, and a proxy without faults."""
    s3_proxy.reset()
    the_s3_site.clean()
    return the_s3_site


@pytest.fixture
def gcs(the_gcs: GcsServer) -> Iterator[GcsServer]:
    """A server without faults, with an empty bucket."""
    the_gcs.reset()
    yield the_gcs
    the_gcs.heal()


@pytest.fixture
def gcs_site(the_gcs_site: Site, gcs: GcsServer) -> Site:
    """Nothing in it yet."""
    the_gcs_site.clean()
    return the_gcs_site


@pytest.fixture(params=["local_site", "s3_site"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each of the two in turn."""
    site: Site = request.getfixturevalue(request.param)
    return site

"""Programs that others wrote, as clients of one Kinto with the plugin; each test has a bucket of
its own in it."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import kinto_http
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.support.clients.downloads import Downloads
from tests.support.servers.kinto import LiveKinto
from tests.support.servers.ports import free_port

USER = ("alice", "secret")

# Nothing but the page is to be asked for anything.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PICTURES = Path(__file__).parents[2] / "screenshots"

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a browser shows when its test fails, and say where."""
    report = yield
    take_picture = getattr(item, "take_picture", None)
    if report.failed and call.when != "teardown" and take_picture is not None:
        PICTURES.mkdir(exist_ok=True)
        path = PICTURES / f"{re.sub(r'[^A-Za-z0-9]+', '-', item.name).strip('-')}.png"
        take_picture(path)
        report.sections.append(("Screenshot", str(path)))
    return report


def live_kinto(folder: Path, port: int | None = None, **settings: Any) -> LiveKinto:
    """Start a Kinto that serves the files itself, stored in ``folder/{bucket_id}``. Those of the
    bucket ``drafts`` are private."""
    port = port or free_port()
    base = {
        "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
        "kinto.multiauth.policies": "basicauth",
        "kinto.userid_hmac_secret": "of the tests",
        "kinto.experimental_collection_schema_validation": "true",
        "kinto.attachment.base_path": str(folder),
        "kinto.attachment.base_url": f"http://127.0.0.1:{port}/v1/files/",
        "kinto.attachment.folder": "{bucket_id}",
        "kinto.attachment.serve_files": "true",
        "kinto.attachment.private.base_path": str(folder.with_name("private")),
        "kinto.attachment.resources.drafts.private": "true",
    }
    return LiveKinto({**base, **settings}, port=port)


@pytest.fixture(scope="session")
def downloads(pytestconfig: pytest.Config) -> Downloads:
    """What others publish, kept from one run of the tests to the next. Without a way to it, the
    test is skipped."""
    return Downloads(Path(pytestconfig.cache.mkdir("downloads")), pytest.skip)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are stored, in a folder for each bucket."""
    return tmp_path_factory.mktemp("clients") / "files"


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[LiveKinto]:
    with live_kinto(folder) as server:
        yield server


@pytest.fixture
def client(server: LiveKinto) -> kinto_http.Client:
    """kinto-http.py, in a new bucket with the collection ``c``."""
    client = kinto_http.Client(
        server_url=server.url,
        bucket=f"test-{next(_numbers)}",
        collection="c",
        auth=USER,
    )
    client.create_bucket()
    client.create_collection()
    return client


@pytest.fixture
def drafts(client: kinto_http.Client) -> kinto_http.Client:
    """The same in the bucket of private files, with a collection of its own."""
    drafts = client.clone(bucket="drafts", collection=client.bucket_name)
    drafts.create_bucket(if_not_exists=True)
    drafts.create_collection()
    return drafts


@pytest.fixture
def stored(client: kinto_http.Client, folder: Path) -> Callable[[], list[bytes]]:
    """``stored()``: the contents of all the files that are stored for the bucket."""

    def stored() -> list[bytes]:
        return sorted(path.read_bytes() for path in folder.glob(f"{client.bucket_name}/*"))

    return stored


def launched(playwright: Playwright, *commands: str) -> Browser:
    """The first of these Chromiums that is installed, without a window. Skips the test if there is
    none."""
    commands = commands or ("chromium-headless-shell", "chromium")
    path = next(filter(None, map(shutil.which, commands)), None)
    if path is None:
        pytest.skip(f"there is no Chromium: the system may have it as a package, {commands[0]}")
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """While it runs, there is a running event loop in this thread."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One for all the tests: that which never has a window, in a third of the time."""
    browser = launched(playwright)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new tab of a browser that remembers nothing."""
    with browser.new_context() as context:
        page = context.new_page()
        request.node.take_picture = lambda path: page.screenshot(path=path, full_page=True)
        yield page

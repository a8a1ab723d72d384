"""Private files in Chromium: as the record's attachment, by their name, and by a link."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable

import kinto_http
import pytest
from playwright.sync_api import Error, HttpCredentials, Page, Request, Route, expect

from tests.clients.conftest import USER, launched
from tests.support.clients.pictures import png

pytestmark = pytest.mark.clients

# Each tells whoever listens that it runs.
SCRIPT = "document.title = 'ran'; new Image().src = '/ran'; fetch('/ran'); location = '/ran';"
HTML = f"<!doctype html><title>page</title><h1>shown</h1><script>{SCRIPT}</script>"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="{0}">'
    '<rect width="40" height="40" fill="red"/><script>{0}</script></svg>'
).format(SCRIPT.replace("'", "&apos;"))
PDF = b"""%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R 3 0 R 3 0 R] /Count 3>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 200 200]>> endobj
trailer <</Root 1 0 R>>
"""
SECONDS = 240
CREDENTIALS = HttpCredentials(username=USER[0], password=USER[1])
WAYS = ("attachment", "name", "link")


def recording() -> bytes:
    """``SECONDS`` of silence, 20 MiB."""
    with io.BytesIO() as buffer, wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 44_100, 0, "NONE", ""))
        file.writeframes(bytes(2 * 44_100 * SECONDS))
        return buffer.getvalue()


class Draft:
    """A private file, and its URLs."""

    def __init__(self, client: kinto_http.Client, location: str) -> None:
        self._client = client
        self._location = location

    def url(self, way: str) -> str:
        endpoint = f"{self._client.get_endpoint('record', id='r')}/attachment"
        if way == "attachment":
            return f"{self._client.session.server_url.rstrip('/')}{endpoint}"
        if way == "name":
            return self._location
        return str(self._client.session.request("post", f"{endpoint}/link")[0]["url"])


@pytest.fixture
def attach(drafts, tmp_path):
    """``attach(filename, content)``."""

    def attach(filename, content):
        path = tmp_path / filename
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Draft(drafts, drafts.add_attachment(id="r", filepath=str(path))["location"])

    return attach


@pytest.fixture
def page(browser, request):
    """A tab of a browser where somebody gives the password who is asked for it."""
    with browser.new_context(http_credentials=CREDENTIALS) as context:
        page = context.new_page()
        request.node.take_picture = lambda path: page.screenshot(path=path, full_page=True)
        yield page


@pytest.fixture
def stranger(browser):
    """A tab of a browser that knows no password."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def asked(page) -> list[str]:
    """What the page asks for."""
    urls: list[str] = []
    page.context.on("request", lambda request: urls.append(request.url))
    return urls


def shown_without(*headers: str) -> Callable[[Route], None]:
    """A file without some of its headers."""

    def show(route: Route) -> None:
        answer = route.fetch()
        kept = {name: value for name, value in answer.headers.items() if name not in headers}
        assert len(kept) == len(answer.headers) - len(headers)
        route.fulfill(response=answer, headers=kept)

    return show


def visit(page: Page, url: str) -> None:
    """Open a URL; what is not shown is downloaded."""
    try:
        page.goto(url)
    except Error as error:
        if "Download is starting" not in str(error):
            raise


def test_an_image_is_shown_by_a_link(attach, stranger):
    link = attach("red.png", png(40)).url("link")

    stranger.set_content(f"<img src='{link}'>")

    expect(stranger.locator("img")).to_have_js_property("naturalWidth", 40)


def test_a_script_of_another_site_reads_it_by_a_link(attach, stranger):
    link = attach("plan.txt", b"the plan").url("link")

    read = stranger.evaluate("url => fetch(url).then((answer) => answer.text())", link)

    assert read == "the plan"


@pytest.mark.parametrize("way", WAYS[:2])
def test_an_image_without_a_link_asks_for_no_password(attach, stranger, way):
    url = attach("red.png", png(40)).url(way)

    stranger.set_content(f"<img src='{url}'>")

    expect(stranger.locator("img")).to_have_js_property("complete", value=True)
    expect(stranger.locator("img")).to_have_js_property("naturalWidth", 0)


def test_a_player_jumps_to_the_end_of_a_recording(attach, stranger):
    link = attach("long.wav", recording()).url("link")
    ranges = []

    def note(request: Request) -> None:
        if request.url == link:
            ranges.append(request.headers.get("range"))

    stranger.on("request", note)
    stranger.set_content(f"<video src='{link}'></video>")
    video = stranger.locator("video")
    expect(video).to_have_js_property("duration", SECONDS)

    video.evaluate("""(video) => new Promise((resolve) => {
        video.onseeked = resolve;
        video.currentTime = video.duration - 5;
    })""")

    expect(video).to_have_js_property("currentTime", SECONDS - 5)
    # Not all that is before.
    assert ranges[0] == "bytes=0-"
    assert int(ranges[-1].removeprefix("bytes=").rstrip("-")) > 10_000_000


@pytest.fixture(scope="module")
def browser_with_viewer(playwright):
    """A Chromium that shows a PDF."""
    browser = launched(playwright, "chromium")
    yield browser
    browser.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_pdf_opens(attach, browser_with_viewer, way):
    url = attach("paper.pdf", PDF).url(way)

    with browser_with_viewer.new_context(http_credentials=CREDENTIALS) as context:
        page = context.new_page()
        # The viewer is an extension in a frame of its own.
        with page.expect_event("framenavigated", lambda frame: "extension:" in frame.url) as view:
            page.goto(url)

        expect(view.value.locator("#pagelength")).to_have_text("3")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("filename", "content"), [("page.html", HTML), ("picture.svg", SVG)])
class TestNoScriptRuns:
    def test_where_it_is_opened(self, attach, page, asked, way, filename, content):
        url = attach(filename, content).url(way)

        with page.expect_download() as download:
            visit(page, url)

        assert download.value.suggested_filename == filename
        assert not [each for each in asked if each.endswith("/ran")]

    def test_where_a_browser_shows_it_all_the_same(
        self, attach, page, asked, way, filename, content
    ):
        url = attach(filename, content).url(way)
        page.route(url, shown_without("content-disposition"))
        page.goto(url)
        page.wait_for_timeout(300)

        assert page.url == url
        assert page.title() != "ran"
        assert not [each for each in asked if each.endswith("/ran")]


@pytest.mark.parametrize(("filename", "content"), [("page.html", HTML), ("picture.svg", SVG)])
def test_it_is_the_headers_that_no_script_runs_by(attach, page, filename, content):
    url = attach(filename, content).url("link")
    page.route(url, shown_without("content-disposition", "content-security-policy"))
    with page.expect_request("**/ran"):
        visit(page, url)


def test_an_svg_is_an_image_and_runs_nothing(attach, page, asked):
    link = attach("picture.svg", SVG).url("link")

    page.set_content(f"<img src='{link}'>")

    expect(page.locator("img")).to_have_js_property("naturalWidth", 40)
    assert not [each for each in asked if each.endswith("/ran")]

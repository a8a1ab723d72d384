"""The demo, in Chromium, as ``make serve`` serves it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.clients.demo import Demo, make_serve
from tests.clients.pictures import png

pytestmark = pytest.mark.clients

AXE = "4.10.3"

# A file of that size is uploaded in five pieces.
IN_PIECES = "?resumable=1000&chunk=30000"
BIG = bytes(range(250)) * 600

_numbers = itertools.count(1)


class Records:
    """One user's records, behind the page's back."""

    def __init__(self, url: str, user: str) -> None:
        self.user = user
        self._url = f"{url}v1/buckets/default/collections/files/records"
        self._auth = (user, "secret")

    def all(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self._request("GET", "").json()["data"]
        return records

    def only(self) -> dict[str, Any]:
        (record,) = self.all()
        return record

    def put(self, record_id: str, **data: Any) -> None:
        self._request("PUT", f"/{record_id}", json={"data": data})

    def patch(self, **data: Any) -> None:
        """Change the only record there is."""
        self._request("PATCH", f"/{self.only()['id']}", json={"data": data})

    def delete(self) -> None:
        self._request("DELETE", "")

    def content(self) -> bytes:
        """The file of the only record there is."""
        return requests.get(self.only()["attachment"]["location"], timeout=30).content

    def _request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        answer = requests.request(method, self._url + path, auth=self._auth, timeout=30, **kwargs)
        answer.raise_for_status()
        return answer


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory):
    with make_serve(tmp_path_factory.mktemp("demo") / "a checkout") as url:
        yield url


@pytest.fixture
def records(url) -> Records:
    return Records(url.removesuffix("demo/"), f"user-{next(_numbers)}")


@pytest.fixture
def demo(page, url, records) -> Iterator[Demo]:
    """The page, where a new user has logged in. No script of it may fail."""
    errors: list[Any] = []
    page.on("pageerror", lambda error: errors.append(error))
    demo = Demo(page, url)
    demo.open(records.user)
    yield demo
    assert errors == []


@pytest.fixture
def patches(page) -> list[int]:
    """The offsets of the pieces that the page has sent."""
    offsets = []

    def note(request: Any) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    page.on("request", note)
    return offsets


@pytest.fixture(scope="session")
def axe(downloads) -> str:
    """The script of axe-core, which looks for what keeps people out."""
    return (downloads.npm("axe-core", AXE) / "axe.min.js").read_text()


def violations(demo: Demo, axe: str) -> list[tuple[str, list[str]]]:
    demo.page.evaluate(axe)
    found = json.loads(demo.page.evaluate("axe.run().then(JSON.stringify)"))["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]


def focused(demo: Demo) -> str:
    """What has the focus, by its label or text."""
    what: str = demo.page.evaluate(
        "(({ labels, innerText, id }) => labels?.[0]?.innerText || innerText || id)"
        "(document.activeElement)"
    )
    return " ".join(what.split())


def test_a_file_is_picked_and_uploaded(demo, records):
    expect(demo.page.get_by_text("There are no files yet.")).to_be_visible()
    demo.pick("report.txt", b"all is well")
    demo.page.get_by_label("Type").select_option("document")
    demo.page.get_by_label("Category").fill("work")

    demo.press("Upload")

    expect(demo.status).to_have_text("report.txt is uploaded.")
    expect(demo.rows).to_have_count(1)
    assert demo.cells("report.txt") == ["report.txt", "document", "work", "11 bytes"]
    record = records.only()
    assert (record["type"], record["category"]) == ("document", "work")
    assert records.content() == b"all is well"


def test_a_file_is_dropped_and_uploaded(demo, records):
    demo.drop("dropped.txt", "from another window")
    expect(demo.status).to_have_text("dropped.txt is picked.")

    demo.press("Upload")

    expect(demo.row("dropped.txt")).to_be_visible()
    assert records.content() == b"from another window"


def test_several_files_are_not_dropped_at_once(demo):
    transfer = demo.page.evaluate_handle("""
        () => {
            const transfer = new DataTransfer();
            for (const name of ["a", "b"]) transfer.items.add(new File(["text"], name));
            return transfer;
        }
    """)

    demo.page.locator("h1").dispatch_event("drop", {"dataTransfer": transfer})

    expect(demo.problem).to_have_text("One file at a time, please.")
    expect(demo.page.get_by_label("File", exact=True)).to_have_value("")


def test_the_link_leads_to_the_file(demo):
    demo.upload("report.txt", b"all is well")

    with demo.page.context.expect_page() as opened:
        demo.page.get_by_role("link", name="report.txt").click()

    expect(opened.value.locator("body")).to_have_text("all is well")


def test_an_image_has_a_thumbnail(demo, records):
    demo.upload("red.png", png(40), "image/png")
    demo.upload("report.txt", b"all is well")

    image = demo.row("red.png").locator("img")
    expect(image).to_have_js_property("naturalWidth", 40)
    assert image.get_attribute("src") in str(records.all())
    expect(demo.row("report.txt").locator("img")).to_have_count(0)


def test_the_file_is_replaced_and_the_record_stays(demo, records):
    demo.upload("first.txt", b"first")
    before = records.only()
    demo.press_in_row("first.txt", "Replace")
    expect(demo.page.get_by_role("heading", name="Replace first.txt")).to_be_visible()
    demo.pick("second.txt", b"second")

    demo.press("Replace")

    expect(demo.row("second.txt")).to_be_visible()
    expect(demo.rows).to_have_count(1)
    expect(demo.page.get_by_role("heading", name="Upload a file")).to_be_visible()
    assert records.only()["id"] == before["id"]
    assert records.content() == b"second"


def test_the_file_is_deleted_if_one_says_so(demo, records):
    demo.upload("first.txt", b"first")
    location = records.only()["attachment"]["location"]
    demo.page.once("dialog", lambda dialog: dialog.dismiss())
    demo.press_in_row("first.txt", "Delete")
    expect(demo.rows).to_have_count(1)
    demo.page.once("dialog", lambda dialog: dialog.accept())

    demo.press_in_row("first.txt", "Delete")

    expect(demo.status).to_have_text("first.txt is deleted.")
    expect(demo.rows).to_have_count(0)
    assert records.all() == []
    assert requests.get(location, timeout=30).status_code == 404


@pytest.mark.parametrize("parameters", ["", "?resumable=0"], ids=["at once", "in pieces"])
def test_what_others_wrote_meanwhile_is_not_replaced_unasked(demo, records, parameters):
    demo.open(records.user, parameters)
    demo.upload("first.txt", b"first")
    demo.press_in_row("first.txt", "Replace")
    demo.pick("second.txt", b"second")
    demo.page.get_by_label("Category").fill("mine")
    records.patch(category="theirs")

    demo.press("Replace")

    expect(demo.problem).to_contain_text("first.txt was changed by somebody else meanwhile")
    expect(demo.row("theirs")).to_contain_text("first.txt")
    assert records.content() == b"first"

    # What was picked and written in the form is still there.
    demo.press("Replace")

    expect(demo.row("second.txt")).to_contain_text("mine")
    assert records.content() == b"second"


def test_a_file_whose_record_has_gone_meanwhile_is_uploaded_as_a_new_one(demo, records):
    demo.upload("first.txt", b"first")
    demo.press_in_row("first.txt", "Replace")
    demo.pick("second.txt", b"second")
    records.delete()

    demo.press("Replace")

    expect(demo.problem).to_contain_text("first.txt was deleted by somebody else meanwhile")
    demo.press("Upload")
    expect(demo.row("second.txt")).to_be_visible()
    assert records.content() == b"second"


def test_what_others_wrote_meanwhile_is_not_deleted(demo, records):
    demo.upload("first.txt", b"first")
    records.patch(category="theirs")
    demo.page.once("dialog", lambda dialog: dialog.accept())

    demo.press_in_row("first.txt", "Delete")

    expect(demo.problem).to_contain_text("first.txt was changed by somebody else meanwhile")
    expect(demo.row("theirs")).to_contain_text("first.txt")
    assert records.content() == b"first"


def test_a_refusal_is_shown_and_can_be_healed(demo, records):
    demo.pick("report.txt", b"all is well")
    demo.page.route("**/attachment", lambda route: route.fulfill(status=503, json=REFUSAL))

    demo.press("Upload")

    expect(demo.problem).to_contain_text("The storage is full.")
    demo.page.unroute("**/attachment")
    demo.press("Upload")
    expect(demo.row("report.txt")).to_be_visible()


REFUSAL = {"code": 503, "errno": 201, "message": "The storage is full."}


def test_a_big_file_is_uploaded_in_pieces_with_progress(demo, records, patches):
    demo.open(records.user, IN_PIECES)
    shown = demo.page.get_by_role("progressbar", name="Upload")
    expect(shown).to_have_count(0)
    percents, told = [], []

    def look(route: Any) -> None:
        percents.append(demo.page.evaluate("document.getElementById('bar').value"))
        said = demo.page.evaluate("document.getElementById('status').textContent")
        if said not in told:
            told.append(said)
        route.continue_()

    demo.page.route("**/uploads/*", look)

    demo.upload("big.bin", BIG, "application/octet-stream")

    assert patches == [0, 30_000, 60_000, 90_000, 120_000]
    assert percents == [0, 20, 40, 60, 80]
    assert told == [
        *("big.bin is being uploaded.", "A quarter is sent of big.bin."),
        *("Half is sent of big.bin.", "Three quarters are sent of big.bin."),
    ]
    assert records.content() == BIG
    assert records.only()["attachment"]["mimetype"] == "application/octet-stream"


def test_a_small_file_is_uploaded_at_once(demo, records, patches):
    demo.open(records.user, IN_PIECES)

    demo.upload("small.txt", b"small")

    assert patches == []


def test_the_progress_of_an_upload_at_once_is_shown(demo, page):
    page.evaluate("""
        window.shown = [];
        new MutationObserver(() => shown.push(document.getElementById("percent").textContent))
            .observe(document.getElementById("percent"), { childList: true });
    """)

    demo.upload("report.txt", b"all is well" * 100_000)

    assert "Saving …" in page.evaluate("shown")
    expect(page.locator("#progress")).to_be_hidden()


@pytest.mark.parametrize("status", [None, 503, 423, 409])
def test_an_upload_goes_on_after_a_failure(demo, records, patches, status):
    demo.open(records.user, IN_PIECES)
    fail_at(demo, 60_000, status)
    demo.pick("big.bin", BIG)

    demo.press("Upload")

    expect(demo.row("big.bin")).to_be_visible()
    assert patches == [0, 30_000, 60_000, 60_000, 90_000, 120_000]
    assert records.content() == BIG


def test_an_upload_goes_on_after_an_answer_was_lost(demo, records, patches):
    demo.open(records.user, IN_PIECES)
    lost = []

    def lose_the_last_answer(route: Any) -> None:
        if route.request.headers.get("upload-offset") == "120000":
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    demo.page.route("**/uploads/*", lose_the_last_answer)
    demo.pick("big.bin", BIG)

    demo.press("Upload")

    expect(demo.row("big.bin")).to_be_visible()
    assert lost == [204]
    assert patches == [0, 30_000, 60_000, 90_000, 120_000]
    assert records.content() == BIG


def test_an_upload_goes_on_after_the_page_was_closed(demo, records, patches, tmp_path):
    demo.open(records.user, IN_PIECES)
    # The same file, also by the time that it was written.
    path = tmp_path / "big.bin"
    path.write_bytes(BIG)
    fail_at(demo, 60_000)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")
    expect(demo.status).to_contain_text("The upload goes on when it is back.")

    demo.open(records.user, IN_PIECES)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")

    expect(demo.row("big.bin")).to_be_visible()
    assert patches.count(0) == 1
    assert records.content() == BIG


def test_an_upload_that_the_server_has_forgotten_begins_anew(
    demo, records, patches, tmp_path, page
):
    demo.open(records.user, IN_PIECES)
    path = tmp_path / "big.bin"
    path.write_bytes(BIG)
    fail_at(demo, 60_000)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")
    expect(demo.status).to_contain_text("The upload goes on when it is back.")
    page.evaluate("for (const key in localStorage) localStorage[key] += '0'")

    demo.open(records.user, IN_PIECES)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")

    expect(demo.row("big.bin")).to_be_visible()
    assert patches.count(0) == 2
    assert records.content() == BIG


def test_a_record_that_goes_in_the_middle_of_an_upload_is_told(demo, records):
    demo.open(records.user, IN_PIECES)
    demo.upload("first.txt", b"first")
    demo.press_in_row("first.txt", "Replace")
    demo.pick("big.bin", BIG)

    def delete_at_the_third(route: Any) -> None:
        if route.request.headers.get("upload-offset") == "60000":
            records.delete()
        route.continue_()

    demo.page.route("**/uploads/*", delete_at_the_third)

    demo.press("Replace")

    expect(demo.problem).to_contain_text("first.txt was deleted by somebody else meanwhile")
    demo.press("Upload")
    expect(demo.row("big.bin")).to_be_visible()
    assert records.content() == BIG


def test_a_cancelled_upload_leaves_nothing_behind(demo, records):
    demo.open(records.user, IN_PIECES)
    uploads = []
    demo.page.on("response", lambda response: uploads.append(response.headers.get("location")))
    demo.page.route(
        "**/uploads/*",
        # The first piece never arrives.
        lambda route: None if route.request.method == "PATCH" else route.continue_(),
    )
    demo.pick("big.bin", BIG)
    # Before its answer there is nothing to delete.
    with demo.page.expect_request(lambda request: request.method == "PATCH"):
        demo.press("Upload")
    with demo.page.expect_request(lambda request: request.method == "DELETE"):
        demo.press("Cancel")

    expect(demo.status).to_have_text("The upload of big.bin is cancelled.")
    assert records.all() == []
    (upload,) = filter(None, uploads)
    answer = requests.head(
        upload, auth=(records.user, "secret"), headers={"Tus-Resumable": "1.0.0"}, timeout=30
    )
    assert answer.status_code == 404


def fail_at(demo: Demo, offset: int, status: int | None = None) -> None:
    """Refuse the piece at ``offset`` once; without a ``status`` the connection is lost."""
    failed: list[Any] = []

    def fail(route: Any) -> None:
        if failed or route.request.headers.get("upload-offset") != str(offset):
            route.continue_()
            return
        failed.append(route)
        if status is None:
            route.abort()
        else:
            route.fulfill(status=status, json={"message": "Not now."})

    demo.page.route("**/uploads/*", fail)


@pytest.mark.parametrize("parameters", ["", "?resumable=0"], ids=["at once", "in pieces"])
def test_the_name_of_a_file_is_text_whatever_is_in_it(demo, records, parameters):
    demo.open(records.user, parameters)
    name = "<img src=x onerror=\"document.title='hacked'\">.txt"

    demo.upload(name, b"content")

    assert demo.page.get_by_role("link", name=name).inner_text() == records.only()["attachment"][
        "filename"
    ].replace("%22", '"')
    demo.press_in_row(name, "Replace")
    expect(demo.page.get_by_role("heading", name=f"Replace {name}")).to_be_visible()
    expect(demo.page.locator("img")).to_have_count(0)
    assert demo.page.title() == "Kinto Attachment: the demo"


def test_only_addresses_of_the_web_are_linked(demo, records):
    script = "javascript:document.title='hacked'"
    records.put("a", attachment={"filename": "evil", "location": script, "mimetype": "image/png"})
    records.put("b", attachment="none", type={"a": ["b"]}, category=None)

    demo.press("Log in")

    expect(demo.row("evil")).to_be_visible()
    expect(demo.rows).to_have_count(2)
    expect(demo.page.locator("td a, td img, th a")).to_have_count(0)


def test_long_lists_are_shown_page_by_page(demo, records):
    for number in range(51):
        records.put(f"r{number}", type="document")

    demo.press("Log in")
    expect(demo.rows).to_have_count(50)
    demo.press("Show more")

    expect(demo.rows).to_have_count(51)
    expect(demo.page.get_by_role("button", name="Show more")).to_be_hidden()


def test_everything_is_done_with_the_keyboard(demo, records, tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("all is well")
    keyboard = demo.page.keyboard
    # Playwright asks for the dialog when somebody first listens, and does not wait for an answer.
    demo.page.on("filechooser", lambda chooser: None)
    demo.page.get_by_role("button", name="Log in").focus()

    keyboard.press("Tab")
    assert focused(demo) == "File"
    with demo.page.expect_file_chooser() as chooser:
        keyboard.press("Enter")
    chooser.value.set_files(path)
    keyboard.press("Tab")
    assert focused(demo) == "Type"
    keyboard.press("ArrowDown")
    keyboard.press("Tab")
    assert focused(demo) == "Category"
    keyboard.type("work")
    keyboard.press("Tab")
    assert focused(demo) == "Upload"
    keyboard.press("Enter")
    expect(demo.row("report.txt")).to_contain_text("work")

    # It is where the next file is picked.
    assert focused(demo) == "File"
    for _ in range(5):
        keyboard.press("Tab")
    assert focused(demo) == "Replace report.txt"
    keyboard.press("Enter")
    assert focused(demo) == "File"
    demo.press("Cancel")
    assert focused(demo) == "File"
    for _ in range(6):
        keyboard.press("Tab")
    assert focused(demo) == "Delete report.txt"
    demo.page.once("dialog", lambda dialog: dialog.accept())
    keyboard.press("Enter")

    expect(demo.status).to_have_text("report.txt is deleted.")
    expect(demo.page.get_by_role("heading", name="Files")).to_be_focused()
    assert records.all() == []


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_everything_without_scrolling_sideways(demo, width):
    demo.upload(f"{'a-long-name-' * 12}.png", png(40), "image/png")

    demo.page.set_viewport_size({"width": width, "height": 800})

    widths = "[document.documentElement.scrollWidth, innerWidth]"
    assert demo.page.evaluate(widths) == [width, width]
    row = demo.row("a-long-name")
    for part in (row.get_by_role("link"), *row.get_by_role("button").all(), row.locator("img")):
        box = part.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nobody_is_kept_out(demo, axe, scheme, width):
    demo.page.emulate_media(color_scheme=scheme)
    demo.page.set_viewport_size({"width": width, "height": 900})
    assert violations(demo, axe) == []
    demo.upload("red.png", png(40), "image/png")
    demo.upload("report.txt", b"all is well")
    demo.press_in_row("report.txt", "Replace")
    assert violations(demo, axe) == []
    demo.pick("second.txt", b"second")
    demo.page.route("**/attachment", lambda route: route.fulfill(status=503, json=REFUSAL))
    demo.press("Replace")
    expect(demo.problem).to_contain_text("The storage is full.")
    assert violations(demo, axe) == []
    demo.page.unroute("**/attachment")
    demo.page.route("**/attachment", lambda route: None)
    demo.press("Replace")
    expect(demo.page.get_by_role("progressbar")).to_be_visible()

    assert violations(demo, axe) == []


def test_a_table_stays_one_on_a_phone(demo):
    demo.upload("report.txt", b"all is well")

    demo.page.set_viewport_size({"width": 390, "height": 800})

    table = demo.page.get_by_role("table", name="Files")
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table.get_by_role("rowheader", name="report.txt")).to_be_visible()

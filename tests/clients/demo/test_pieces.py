"""A large file is uploaded in pieces, and goes on after whatever happened."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.support.demo.page import Demo

pytestmark = pytest.mark.clients

# A file of that size is uploaded in five pieces.
IN_PIECES = "?resumable=1000&chunk=30000"
BIG = bytes(range(250)) * 600


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


@pytest.fixture
def elsewhere(demo):
    """The URL of another server, and what the page asks it for: no preflight, even."""
    asked = []

    def note(route: Any) -> None:
        asked.append(route.request.method)
        route.abort()

    demo.page.route("http://elsewhere.example/**", note)
    return "http://elsewhere.example/upload", asked


def test_no_upload_goes_where_another_server_is_named(demo, records, elsewhere):
    url, asked = elsewhere
    demo.open(records.user, IN_PIECES)
    headers = {"Location": url, "Tus-Resumable": "1.0.0"}
    demo.page.route("**/attachment", lambda route: route.fulfill(status=201, headers=headers))
    demo.pick("big.bin", BIG)

    demo.press("Upload")

    expect(demo.problem).to_contain_text(f"The server names {url} for the file")
    assert asked == []


def test_no_upload_goes_on_where_another_server_was_named(demo, records, elsewhere, tmp_path):
    url, asked = elsewhere
    demo.open(records.user, IN_PIECES)
    path = tmp_path / "big.bin"
    path.write_bytes(BIG)
    fail_at(demo, 60_000)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")
    expect(demo.status).to_contain_text("The upload goes on when it is back.")
    demo.page.evaluate(f"for (const key in localStorage) localStorage[key] = '{url}'")

    demo.open(records.user, IN_PIECES)
    demo.page.get_by_label("File", exact=True).set_input_files(path)
    demo.press("Upload")

    expect(demo.problem).to_contain_text(f"The server names {url} for the file")
    assert asked == []


@pytest.mark.parametrize("pattern", ["**/attachment", "**/uploads/*"])
def test_no_upload_follows_a_redirect(demo, records, elsewhere, pattern):
    url, asked = elsewhere
    demo.open(records.user, IN_PIECES)
    demo.page.route(pattern, lambda route: route.fulfill(status=307, headers={"Location": url}))
    demo.pick("big.bin", BIG)

    demo.press("Upload")

    expect(demo.problem).to_contain_text("The server redirects uploads to another address.")
    assert asked == []


def test_no_page_of_the_list_is_taken_from_another_server(demo, records, elsewhere):
    url, asked = elsewhere

    def answer(route: Any) -> None:
        headers = {"Next-Page": url, "Content-Type": "application/json"}
        route.fulfill(status=200, headers=headers, body='{"data": []}')

    demo.page.route("**/records?*", answer)
    demo.open(records.user)
    demo.page.get_by_role("button", name="More").click()

    expect(demo.problem).to_contain_text(f"The server names {url}, which is not its own")
    assert asked == []


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

"""Private files: only who has uploaded them can read them."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Request, expect

from tests.support.clients.pictures import png
from tests.support.demo.page import Demo

pytestmark = pytest.mark.clients


@pytest.fixture
def private(demo, records) -> Demo:
    """The page, where somebody has turned to private files."""
    demo.page.get_by_role("checkbox", name="Private").check()
    expect(demo.status).to_contain_text(f"the private files of {records.user}")
    return demo


def shown(demo: Demo, name: str) -> str:
    """Where the link of a file leads to."""
    return str(demo.page.get_by_role("link", name=name, exact=True).get_attribute("href"))


def test_a_private_file_is_shown_by_links_which_need_no_password(private, page):
    private.upload("plan.txt", b"the plan")
    private.upload("red.png", png(40), "image/png")

    expect(private.row("red.png").locator("img")).to_have_js_property("naturalWidth", 40)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="plan.txt").click()
    expect(opened.value.locator("body")).to_have_text("the plan")


def test_its_address_without_the_link_answers_nobody_else(private, records, url):
    private.upload("plan.txt", b"the plan")
    link = shown(private, "plan.txt")
    token, name = link.split("/~")[1].split("/", 1)

    def status(address, user=None):
        auth = user and (user, "secret")
        return requests.get(address, auth=auth, timeout=30).status_code

    assert name.startswith("_private/")
    for place in ("attachments", "files"):
        address = f"{url.removesuffix('demo/')}v1/{place}/{name}"
        assert status(address) == 401
        assert status(address, "somebody-else") == 404
        assert status(address, records.user) == 200


def test_the_links_of_a_page_are_made_in_one_request(private, records, page, url):
    api, auth = f"{url.removesuffix('demo/')}v1/", (records.user, "secret")
    user = requests.get(api, auth=auth, timeout=30).json()["user"]
    for number in range(30):
        endpoint = f"buckets/private/collections/{user['bucket']}/records/r{number}/attachment"
        files = {"attachment": (f"file-{number}.png", png(40), "image/png")}
        requests.post(api + endpoint, files=files, auth=auth, timeout=30).raise_for_status()
    batches: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/batch"):
            batches.append(request.url)

    page.on("request", note)
    private.press("Log in")

    expect(private.rows).to_have_count(30)
    assert len(batches) == 1
    assert len({shown(private, f"file-{number}.png") for number in range(30)}) == 30
    expect(private.rows.first.locator("img")).to_have_js_property("naturalWidth", 40)


def test_public_and_private_files_are_apart(private, records, page):
    private.upload("plan.txt", b"the plan")
    expect(page.get_by_role("checkbox", name="Private")).to_be_checked()
    assert records.all() == []

    page.get_by_role("checkbox", name="Private").uncheck()

    expect(private.status).to_contain_text("whoever knows the address of one can read it")
    expect(private.rows).to_have_count(0)
    private.upload("news.txt", b"the news")
    assert records.content() == b"the news"
    assert "/~" not in shown(private, "news.txt")


def test_somebody_else_sees_none_of_them(private, records, page):
    private.upload("plan.txt", b"the plan")

    page.get_by_label("User name").fill(f"not-{records.user}")
    private.press("Log in")

    expect(private.status).to_have_text(f"These are the files of not-{records.user}.")
    expect(private.rows).to_have_count(0)


def test_a_private_file_is_uploaded_in_pieces_replaced_and_deleted(demo, records, page):
    demo.open(records.user, "?resumable=1000&chunk=30000")
    page.get_by_role("checkbox", name="Private").check()
    expect(demo.page.get_by_role("heading", name="Private files")).to_be_visible()
    demo.upload("big.bin", bytes(100_000))
    demo.press_in_row("big.bin", "Replace")
    demo.pick("small.txt", b"small")
    demo.press("Replace")
    expect(demo.row("small.txt")).to_be_visible()
    link = shown(demo, "small.txt")
    assert requests.get(link, timeout=30).content == b"small"
    page.once("dialog", lambda dialog: dialog.accept())

    demo.press_in_row("small.txt", "Delete")

    expect(demo.rows).to_have_count(0)
    assert requests.get(link, timeout=30).status_code == 403

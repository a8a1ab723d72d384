"""Kinto Admin with private files, in Chromium.

The page puts locations into links and images, which send no ``Authorization`` of their own. The
browser asks for the password when the first link is opened; from then on it sends it with images,
too.
"""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import expect

from tests.clients.conftest import USER
from tests.clients.test_kinto_admin import server
from tests.support.clients.kinto_admin import KintoAdmin
from tests.support.clients.pictures import png

__all__ = ["server"]

pytestmark = pytest.mark.clients

LOADED = "image => image.complete && image.naturalWidth"


@pytest.fixture
def collection(drafts):
    drafts.patch_collection(
        id=drafts.collection_name,
        data={
            "attachment": {"enabled": True},
            "displayFields": ["title", "attachment.filename"],
            "schema": {"type": "object", "properties": {"title": {"type": "string"}}},
        },
    )
    return f"/buckets/drafts/collections/{drafts.collection_name}"


@pytest.fixture
def page(browser, request):
    """A tab of a browser where somebody gives the password who is asked for it."""
    credentials = {"username": USER[0], "password": USER[1]}
    with browser.new_context(http_credentials=credentials) as context:
        page = context.new_page()
        request.node.take_picture = lambda path: page.screenshot(path=path, full_page=True)
        yield page


@pytest.fixture
def attach(drafts, tmp_path):
    """``attach(filename, content)``: the location of the file of the record ``r``."""

    def attach(filename, content):
        path = tmp_path / filename
        path.write_bytes(content)
        drafts.add_attachment(id="r", filepath=str(path), data={"title": "a draft"})
        return drafts.get_record(id="r")["data"]["attachment"]["location"]

    return attach


@pytest.fixture
def open_record(page, server, collection):
    """``open_record()``: Kinto Admin, where ``alice`` has opened the record."""

    def open_record():
        admin = KintoAdmin(page, server.url)
        admin.log_in(*USER)
        admin.open_record(f"{collection}/records/r")
        return admin

    return open_record


def test_the_link_opens_for_who_gives_the_password(attach, open_record):
    attach("plan.txt", b"the plan")
    link = open_record().attachment("Location").get_by_role("link")

    # Playwright answers for a tab that it has opened itself.
    opened = link.page.context.new_page()
    opened.goto(link.get_attribute("href"))

    expect(opened.locator("body")).to_have_text("the plan")


def test_an_image_is_shown_once_the_browser_knows_the_password(attach, open_record):
    location = attach("red.png", png(40))
    admin = open_record()
    image = admin.page.locator(f"img[src='{location}']")
    # Before that it asks for none, and the page goes on.
    expect(image).to_have_js_property("complete", value=True)
    assert image.evaluate(LOADED) == 0
    admin.page.context.new_page().goto(location)

    admin.page.reload()

    expect(image).to_have_js_property("naturalWidth", 40)


def test_the_file_is_replaced_and_stays_private(attach, open_record, collection, drafts):
    attach("first.txt", b"first")
    admin = open_record()
    admin.pick("second.txt", b"second")

    admin.press("Update record")

    expect(admin.row("a draft")).to_contain_text("second.txt")
    location = drafts.get_record(id="r")["data"]["attachment"]["location"]
    assert "/_private/" in location
    assert requests.get(location, timeout=30).status_code == 401
    assert requests.get(location, auth=USER, timeout=30).content == b"second"

"""Kinto Admin, the web page that Kinto ships, in Chromium."""

from __future__ import annotations

import hashlib

import pytest
import requests
from playwright.sync_api import expect

from tests.clients.conftest import USER, live_kinto
from tests.support.clients.kinto_admin import KintoAdmin
from tests.support.clients.pictures import png

pytestmark = pytest.mark.clients

# The last wheel of Kinto that has the built page.
VERSION = "25.0.0"


@pytest.fixture(scope="module")
def server(downloads, folder):
    """A Kinto with the page."""
    page = downloads.wheel("kinto", VERSION) / "kinto" / "plugins" / "admin" / "build"
    includes = "kinto.plugins.history kinto.plugins.admin kinto_attachment"
    settings = {"kinto.includes": includes, "kinto.admin_assets_path": str(page)}
    with live_kinto(folder, **settings) as server:
        yield server


@pytest.fixture
def collection(client):
    """A collection for files. The list shows titles and names of files."""
    client.patch_collection(
        id="c",
        data={
            "attachment": {"enabled": True},
            "displayFields": ["title", "attachment.filename"],
            "schema": {"type": "object", "properties": {"title": {"type": "string"}}},
        },
    )
    return f"/buckets/{client.bucket_name}/collections/c"


@pytest.fixture
def admin(page, server, collection):
    """Kinto Admin, where ``alice`` has logged in. It reads only then what there is, and what
    she may do."""
    admin = KintoAdmin(page, server.url)
    admin.log_in(*USER)
    return admin


@pytest.fixture
def attached(client, collection, tmp_path):
    """The record ``r`` has a file."""
    path = tmp_path / "first.txt"
    path.write_text("first")
    client.add_attachment(id="r", filepath=str(path), data={"title": "old title"})
    return client.get_record(id="r")["data"]


@pytest.fixture
def record(collection):
    return f"{collection}/records/r"


def test_a_collection_for_files_is_made_and_gets_a_file(admin, client, folder):
    bucket = f"{client.bucket_name}-new"
    admin.create_bucket(bucket)
    # The page has read the list of buckets at log-in.
    admin.page.reload()
    admin.create_collection(bucket, "new")
    admin.page.get_by_role("link", name="Create record").click()
    admin.fill("Title", "a report")
    admin.pick("report.txt", b"all is well")

    admin.press("Create record")

    expect(admin.notice("Record created")).to_be_visible()
    expect(admin.row("a report")).to_contain_text("report.txt")
    made = client.get_collection(id="new", bucket=bucket)["data"]
    assert made["attachment"]["enabled"] is True
    (stored,) = (folder / bucket).iterdir()
    assert stored.read_bytes() == b"all is well"


def test_a_record_shows_what_its_file_is(admin, attached, record):
    admin.open_record(record)

    expect(admin.attachment("Filename")).to_contain_text("first.txt")
    expect(admin.attachment("Size")).to_contain_text("5 B")
    expect(admin.attachment("Hash")).to_contain_text(hashlib.sha256(b"first").hexdigest())
    expect(admin.attachment("Mime-Type")).to_contain_text("text/plain")


def test_the_file_is_opened_by_its_link(admin, attached, record):
    admin.open_record(record)
    link = admin.attachment("Location").get_by_role("link")
    assert link.get_attribute("href") == attached["attachment"]["location"]

    with admin.page.context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])

    expect(opened.value.locator("body")).to_have_text("first")


def test_the_file_is_replaced(admin, client, attached, record, stored):
    admin.open_record(record)
    admin.pick("second.txt", b"second")

    admin.press("Update record")

    expect(admin.notice("Record updated")).to_be_visible()
    expect(admin.row("old title")).to_contain_text("second.txt")
    assert client.get_record(id="r")["data"]["attachment"]["filename"] == "second.txt"
    assert stored() == [b"second"]


def test_a_name_with_spaces_and_accents_is_the_one_of_the_file(
    admin, client, attached, record, stored
):
    admin.open_record(record)
    admin.pick("first é paper.txt", b"second")

    admin.press("Update record")

    expect(admin.row("old title")).to_contain_text("first é paper.txt")
    kept = client.get_record(id="r")["data"]["attachment"]
    assert kept["filename"] == "first é paper.txt"
    assert stored() == [b"second"]


def test_a_record_is_edited_and_keeps_its_file(admin, client, attached, record, stored):
    admin.open_record(record)
    admin.fill("title", "new title")

    admin.press("Update record")

    expect(admin.notice("Record updated")).to_be_visible()
    expect(admin.row("new title")).to_contain_text("first.txt")
    assert client.get_record(id="r")["data"]["attachment"] == attached["attachment"]
    assert stored() == [b"first"]


def test_a_record_without_a_schema_keeps_its_file(admin, client, attached, record, stored):
    client.patch_collection(id="c", data={"schema": {}})
    admin.page.reload()
    admin.open_record(record)

    admin.press("Update record")

    expect(admin.notice("Record updated")).to_be_visible()
    assert client.get_record(id="r")["data"]["attachment"] == attached["attachment"]
    assert stored() == [b"first"]


def test_the_attachment_is_deleted_and_another_one_attached(
    admin, client, attached, record, stored
):
    admin.open_record(record)
    admin.press("Delete this attachment")
    expect(admin.attachment("Filename")).to_have_count(0)
    assert client.get_record(id="r")["data"]["attachment"] is None
    assert stored() == []

    admin.pick("second.txt", b"second")
    admin.press("Update record")

    expect(admin.row("old title")).to_contain_text("second.txt")
    assert stored() == [b"second"]


def test_the_file_goes_with_the_record(admin, attached, collection, stored):
    admin.open_list(collection)

    admin.row("old title").get_by_role("button", name="Delete record").click()

    expect(admin.page.get_by_text("This collection has no records.")).to_be_visible()
    assert requests.get(attached["attachment"]["location"], timeout=30).status_code == 404
    assert stored() == []


def test_an_image_is_shown(admin, client, record, collection):
    client.create_record(id="r", data={"title": "a picture"})
    admin.open_record(record)
    admin.pick("red.png", png(40), "image/png")
    admin.press("Update record")
    expect(admin.row("a picture")).to_contain_text("red.png")

    admin.open_record(record)

    location = client.get_record(id="r")["data"]["attachment"]["location"]
    image = admin.page.locator(f"img[src='{location}']")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 40)


@pytest.mark.parametrize("what", ["with another file", "without a file"])
def test_what_others_wrote_meanwhile_is_not_lost(admin, client, attached, record, stored, what):
    admin.open_record(record)
    client.patch_record(id="r", data={"title": "meanwhile"})
    admin.fill("title", "mine")
    if what == "with another file":
        admin.pick("second.txt", b"second")

    admin.press("Update record")

    notice = admin.notice("Couldn't update record")
    expect(notice).to_contain_text("Resource r already exists or has been modified meanwhile.")
    kept = client.get_record(id="r")["data"]
    assert (kept["title"], kept["attachment"]) == ("meanwhile", attached["attachment"])
    assert stored() == [b"first"]

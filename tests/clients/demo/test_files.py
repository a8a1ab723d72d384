"""Files are uploaded, shown, replaced and deleted."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Route, expect

from tests.support.clients.pictures import png
from tests.support.demo.page import Demo

pytestmark = pytest.mark.clients


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


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "type in body: 5 is not of type 'string'"),
        (401, "Please authenticate yourself to use this endpoint."),
        (413, "The file is larger than 10 bytes."),
    ],
)
def test_a_refusal_is_shown(demo, records, status, message):
    refusal = {"code": status, "message": message}
    demo.page.route("**/attachment", lambda route: route.fulfill(status=status, json=refusal))
    demo.pick("report.txt", b"all is well")

    demo.press("Upload")

    expect(demo.problem).to_have_text(f"report.txt is not uploaded: {message}")
    expect(demo.page.get_by_label("File", exact=True)).to_be_focused()
    assert records.all() == []


def test_a_quota_that_is_exceeded_is_told_as_what_another_try_does_not_mend(demo):
    refusal = {"code": 507, "message": "The quota of 10 bytes would be exceeded."}
    demo.page.route("**/attachment", lambda route: route.fulfill(status=507, json=refusal))
    demo.pick("report.txt", b"all is well")

    demo.press("Upload")

    expect(demo.problem).to_have_text(
        "report.txt is not uploaded, since the space is used up: "
        "The quota of 10 bytes would be exceeded."
    )


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "The storage is full."), (0, "The connection was lost.")]
)
def test_what_fails_in_passing_can_be_tried_again(demo, records, status, reason):
    refusal = {"code": status, "message": reason}
    demo.page.route(
        "**/attachment",
        lambda route: route.fulfill(status=status, json=refusal) if status else route.abort(),
    )
    demo.pick("report.txt", b"all is well")

    demo.press("Upload")

    expect(demo.problem).to_have_text(f"report.txt is not uploaded: {reason} You can try again.")
    demo.page.unroute("**/attachment")
    demo.press("Upload")
    expect(demo.row("report.txt")).to_be_visible()
    assert records.content() == b"all is well"


def test_a_server_that_refuses_the_user_is_told(page, url):
    refusal = {"code": 401, "message": "Please authenticate yourself to use this endpoint."}
    page.route("**/records?*", lambda route: route.fulfill(status=401, json=refusal))

    page.goto(url)

    expect(page.get_by_role("alert")).to_contain_text("Please authenticate yourself")


@pytest.mark.parametrize("pattern", ["**/v1/", "**/collections/*"])
def test_an_earlier_login_that_is_answered_later_changes_nothing(page, url, records, pattern):
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route(pattern, hold_the_first)
    demo = Demo(page, url)
    with page.expect_request(pattern):
        page.goto(url)
    demo.log_in(records.user)
    demo.upload("report.txt", b"all is well")
    with page.expect_response(pattern):
        held[0].continue_()

    demo.upload("other.txt", b"still well")
    expect(demo.row("report.txt")).to_be_visible()
    names = {record["attachment"]["filename"] for record in records.all()}
    assert names == {"report.txt", "other.txt"}


def test_the_progress_of_an_upload_at_once_is_shown(demo, page):
    page.evaluate("""
        window.shown = [];
        new MutationObserver(() => shown.push(document.getElementById("percent").textContent))
            .observe(document.getElementById("percent"), { childList: true });
    """)

    demo.upload("report.txt", b"all is well" * 100_000)

    assert "Saving …" in page.evaluate("shown")
    expect(page.locator("#progress")).to_be_hidden()


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

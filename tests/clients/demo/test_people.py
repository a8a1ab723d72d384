"""Who has a keyboard alone, a phone, the dark, or no eyes for it uses the page, too."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.support.clients.pictures import png
from tests.support.demo.page import Demo

pytestmark = pytest.mark.clients

AXE = "4.10.3"


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
    assert focused(demo) == "Private"
    keyboard.press("Tab")
    assert focused(demo) == "Upload"
    keyboard.press("Enter")
    expect(demo.row("report.txt")).to_contain_text("work")

    # It is where the next file is picked.
    assert focused(demo) == "File"
    for _ in range(6):
        keyboard.press("Tab")
    assert focused(demo) == "Replace report.txt"
    keyboard.press("Enter")
    assert focused(demo) == "File"
    demo.press("Cancel")
    assert focused(demo) == "File"
    for _ in range(7):
        keyboard.press("Tab")
    assert focused(demo) == "Delete report.txt"
    demo.page.once("dialog", lambda dialog: dialog.accept())
    keyboard.press("Enter")

    expect(demo.status).to_have_text("report.txt is deleted.")
    expect(demo.page.get_by_role("heading", name="Files")).to_be_focused()
    assert records.all() == []


@pytest.mark.parametrize("width", [320, 390, 800, 900])
def test_a_narrow_screen_shows_everything_without_scrolling_sideways(demo, width):
    demo.page.get_by_label("Category").fill("a-long-word-" * 8)
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
    demo.page.route(
        "**/attachment",
        lambda route: route.fulfill(
            status=503, json={"code": 503, "message": "The storage is full."}
        ),
    )
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

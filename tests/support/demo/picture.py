"""Take the picture of the demo that README.rst shows: ``python -m tests.support.demo.picture``.

It needs Chromium, as the tests of the demo do.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.clients.conftest import launched
from tests.support.clients.pictures import png
from tests.support.demo.page import CHECKOUT, Demo, make_serve

# Each with its media type, type and category.
FILES = (
    ("minutes.txt", b"All is well. " * 700, "text/plain", "document", "work"),
    ("sunset.png", "sunset", "image/png", "picture", "holidays"),
    ("sea.png", "sea", "image/png", "picture", "holidays"),
)
BIG = bytes(3_000_000)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launched(playwright)
        with make_serve(Path(folder) / "checkout") as url:
            page = browser.new_page(viewport={"width": 1000, "height": 850})
            demo = Demo(page, url)
            demo.open("alice", "?resumable=1000000&chunk=1000000")
            for name, content, media_type, kind, category in FILES:
                demo.page.get_by_label("Type").select_option(kind)
                demo.page.get_by_label("Category").fill(category)
                demo.upload(
                    name, content if isinstance(content, bytes) else _sky(content), media_type
                )
            # It stops when two of three pieces are there.
            page.route(
                "**/uploads/*",
                lambda route: (
                    None
                    if route.request.headers.get("upload-offset") == "2000000"
                    else route.continue_()
                ),
            )
            demo.pick("recording.ogg", BIG, "audio/ogg")
            demo.page.get_by_label("Type").select_option("recording")
            demo.press("Upload")
            expect(page.get_by_text("66 %")).to_be_visible()
            page.screenshot(path=CHECKOUT / "demo" / "screenshot.png")
        browser.close()


def _sky(name: str) -> bytes:
    """A sun over the sea."""
    top, bottom = {
        "sunset": ((70, 40, 110), (250, 150, 80)),
        "sea": ((120, 190, 240), (230, 245, 250)),
    }[name]

    def pixel(x: int, y: int) -> tuple[int, int, int]:
        if y > 80:
            return (20, 70 + y // 4, 110 + y // 4)
        if math.hypot(x - 60, y - 62) < 20:
            return (255, 236, 150)
        red, green, blue = (a + (b - a) * y // 80 for a, b in zip(top, bottom, strict=True))
        return (red, green, blue)

    return png(120, pixel)


if __name__ == "__main__":
    main()

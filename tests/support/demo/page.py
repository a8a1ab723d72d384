"""The page in the folder ``demo``, as somebody uses it who looks at it in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.support.servers.ports import free_port

CHECKOUT = Path(__file__).parents[3]
MILLISECONDS = 20_000

_DROP = """
([name, type, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name, { type }));
    return transfer;
}
"""


@contextmanager
def make_serve(folder: Path) -> Iterator[str]:
    """Do as ``make serve`` does, with a copy of the checkout in ``folder``, where the files go.
    Yields the URL of the page that it prints."""
    for name in ("scripts", "config", "demo"):
        shutil.copytree(CHECKOUT / name, folder / name)
    script = folder / "scripts" / "serve.py"
    with subprocess.Popen(
        [sys.executable, script, "127.0.0.1", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            found = [re.search(r"http://\S+/demo/", line) for line in _ready(process.stdout)]
            (match,) = filter(None, found)
            yield match[0]
        finally:
            process.kill()


def _ready(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if "curl" in line:
            return
    raise RuntimeError("scripts/serve.py has ended")


class Demo:
    """A tab with the page. What it does not show within ``MILLISECONDS`` fails the test."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.set_default_timeout(MILLISECONDS)
        expect.set_options(timeout=MILLISECONDS)

    def open(self, user: str, parameters: str = "") -> None:
        """Open the page, and log in."""
        self.page.goto(f"{self.url}{parameters}")
        self.log_in(user)

    def log_in(self, user: str) -> None:
        self.page.get_by_label("User name").fill(user)
        self.press("Log in")
        expect(self.status).to_have_text(f"These are the files of {user}.")

    @property
    def status(self) -> Locator:
        """What the page says, and a screen reader reads out."""
        return self.page.get_by_role("status")

    @property
    def problem(self) -> Locator:
        """What the page says when something went wrong."""
        return self.page.get_by_role("alert")

    @property
    def rows(self) -> Locator:
        """The rows of the table, without its head."""
        return self.page.locator("tbody").get_by_role("row")

    def row(self, text: str) -> Locator:
        return self.rows.filter(has_text=text)

    def cells(self, text: str) -> Sequence[str]:
        """What the row with that text says of its file: name, type, category and size."""
        return self.row(text).locator("th, td").all_inner_texts()[1:5]

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def pick(self, name: str, content: bytes, media_type: str = "text/plain") -> None:
        """Choose a file, as the browser's dialog would."""
        payload = FilePayload(name=name, mimeType=media_type, buffer=content)
        self.page.get_by_label("File", exact=True).set_input_files(payload)

    def drop(self, name: str, text: str, media_type: str = "text/plain") -> None:
        """Drop a file on the heading of the page."""
        transfer = self.page.evaluate_handle(_DROP, [name, media_type, text])
        for event in ("dragenter", "dragover", "drop"):
            self.page.locator("h1").dispatch_event(event, {"dataTransfer": transfer})

    def upload(self, name: str, content: bytes, media_type: str = "text/plain") -> None:
        """Pick a file, upload it, and wait until it is there."""
        self.pick(name, content, media_type)
        self.press("Upload")
        expect(self.status).to_have_text(f"{name} is uploaded.")
        expect(self.row(name)).to_have_count(1)

    def press_in_row(self, text: str, button: str) -> None:
        self.row(text).get_by_role("button", name=button).click()

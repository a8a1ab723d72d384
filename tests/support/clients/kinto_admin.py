"""Kinto Admin, as somebody uses it who looks at the page in a browser."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

MILLISECONDS = 20_000


class KintoAdmin:
    """A tab with the page. What it does not show within ``MILLISECONDS`` fails the test."""

    def __init__(self, page: Page, url: str) -> None:
        """``url`` is that of Kinto's API."""
        self.page = page
        self._url = f"{url}admin/"
        page.set_default_timeout(MILLISECONDS)
        # The page asks before it deletes something.
        page.on("dialog", lambda dialog: dialog.accept())

    def log_in(self, user: str, password: str) -> None:
        page = self.page
        page.goto(self._url)
        page.get_by_label("Basic Auth").check()
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in using Basic Auth").click()
        expect(page.get_by_text("Connected as")).to_be_visible()

    def go_to(self, path: str) -> None:
        """``path`` is that of Kinto's API, and whatever the page adds to it."""
        self.page.goto(f"{self._url}#{path}")

    def create_bucket(self, name: str) -> None:
        self.go_to("/buckets/create")
        self.page.get_by_label("Bucket id").fill(name)
        self.press("Create bucket")
        expect(self.notice("Bucket created")).to_be_visible()

    def create_collection(self, bucket: str, name: str) -> None:
        """Create a collection whose records have a title and a file, shown in the list."""
        self.go_to(f"/buckets/{bucket}/collections/create")
        page = self.page
        page.get_by_label("Collection id").fill(name)
        page.get_by_role("button", name="Add Item").click()
        page.get_by_label("Field name").last.fill("attachment.filename")
        page.get_by_label("Enable file attachment").check()
        self.press("Create collection")
        expect(self.notice("Collection created")).to_be_visible()

    def open_list(self, collection: str) -> None:
        self.go_to(f"{collection}/records")
        expect(self.page.get_by_role("heading", name="Records of")).to_be_visible()

    def open_record(self, record: str) -> None:
        self.go_to(f"{record}/attributes")
        expect(self.page.get_by_role("button", name="Update record")).to_be_visible()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def fill(self, field: str, text: str) -> None:
        self.page.get_by_role("textbox", name=field).fill(text)

    def pick(self, filename: str, content: bytes, media_type: str = "text/plain") -> None:
        """Choose a file for the form, as the browser's dialog would."""
        self.page.locator("input[type=file]").set_input_files(
            {"name": filename, "mimeType": media_type, "buffer": content}
        )
        # The page reads it first.
        expect(self.page.get_by_role("listitem").filter(has_text=filename)).to_be_visible()

    def notice(self, text: str) -> Locator:
        """What the page says on top of itself."""
        return self.page.get_by_role("alert").filter(has_text=text)

    def row(self, text: str) -> Locator:
        """The row of a table with that text."""
        return self.page.get_by_role("row").filter(has_text=text)

    def attachment(self, name: str) -> Locator:
        """A line of the record's table "Attachment information"."""
        return self.page.get_by_role("row").filter(
            has=self.page.get_by_role("rowheader", name=name, exact=True)
        )

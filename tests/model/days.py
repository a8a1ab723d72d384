"""What every random day has: a site, the model of it, and the comparison after each step."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from webtest import TestResponse

from tests.model.expected import Attachment, Expected
from tests.model.known import unless_known
from tests.model.site import Site, answered

BASE_URLS = [
    "https://files.example.org/",
    "http://files.example.org/",
    "https://cdn.example.net/f/",
    "",
]

# In "kept", files are kept; in "named" and in the bucket "b", they have the names that they come
# with, and in "b" they lie in a folder.
COLLECTIONS = ["a/work", "a/kept", "a/named", "b/work"]
SETTINGS = {
    "resources.a.kept.keep_old_files": "true",
    "resources.a.named.randomize": "false",
    "resources.b.randomize": "false",
    "resources.b.folder": "folder",
}

records = st.sampled_from([f"{each}/{name}" for each in COLLECTIONS for name in ("r", "s")])


def collection_uri(collection: str) -> str:
    bucket_id, collection_id = collection.split("/")
    return f"/buckets/{bucket_id}/collections/{collection_id}"


def record_uri(record: str) -> str:
    collection, _, record_id = record.rpartition("/")
    return f"{collection_uri(collection)}/records/{record_id}"


def title_of(uri: str) -> str:
    """The record as rules name it."""
    _, _, bucket_id, _, collection_id, _, record_id = uri.split("/")
    return f"{bucket_id}/{collection_id}/{record_id}"


class Day(RuleBasedStateMachine):
    """A random day. Rules send requests, and say in ``expected`` what they should do."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.expected = Expected()
        self.is_tidy = True
        """Whether nothing has happened that may leave rows or files."""
        self.has_moved = False
        """Whether records may have locations under another URL than today's."""
        site.restart(BASE_URLS[0])
        site.empty()

    @property
    def is_transactional(self) -> bool:
        return self.site.is_transactional

    @initialize()
    def begin_the_day(self) -> None:
        """With a file in each collection."""
        for collection in COLLECTIONS:
            self.ensure(collection)
            uri = record_uri(f"{collection}/r")
            response = self.attach(uri, self.expected.content("new"), "file.txt")
            self.expected.attached(uri, response.json, self.site.base_url)

    @unless_known("base_url")
    @rule(base_url=st.sampled_from(BASE_URLS))
    def restart(self, base_url: str) -> None:
        """The same site at another URL, of which no setting tells."""
        self.has_moved = True
        self.site.restart(base_url)

    @invariant()
    def records_show_what_they_should_and_files_are_there(self) -> None:
        self.look()

    def look(self) -> None:
        """Compare the site with what is expected."""
        assert self.shown() == self.expected.records
        uploads = self.site.uploads()
        assert {each.id for each in uploads} == self.expected.uploads.keys()
        self.expected.settle()
        files = self.site.files
        needed = {name for each in uploads for name in each.needs(files)}
        self.expected.check(self.site.stored(), needed)

    def teardown(self) -> None:
        if self.is_tidy and not self.has_moved:
            self.site.check_rows()

    def shown(self) -> dict[str, Attachment | None]:
        """What the records show, by their URIs."""
        found = self.site.records()
        return {uri: record.get("attachment") for uri, record in found.items()}

    def ensure(self, collection: str) -> None:
        """Create a collection, and its bucket, if they do not exist."""
        uri = collection_uri(collection)
        if uri not in self.expected.collections:
            only_new = {"If-None-Match": "*"}
            bucket = uri.partition("/collections/")[0]
            assert self.request("PUT", bucket, {}, only_new).status_code in (201, 412)
            assert self.request("PUT", uri, {}, only_new).status_code == 201
            self.expected.collections.add(uri)

    def request(self, *arguments: Any) -> TestResponse:
        return self.site.request(*arguments)

    def attach(
        self, uri: str, content: bytes, filename: str, headers: Any = None, **fields: Any
    ) -> TestResponse:
        """Upload a file."""
        record = self.site.record(uri)
        response = record.attach(content, filename, status="*", headers=headers, **fields)
        return answered(response)

    def refused(self, response: TestResponse) -> None:
        """A request was refused: nothing has changed, where that can be undone."""
        assert response.status_code >= 400
        if not self.is_transactional:
            self.uncertain()

    def uncertain(self) -> None:
        """Something was interrupted, and may have happened in part."""
        self.is_tidy = False
        expected = self.expected
        expected.adopt(self.shown(), self.site.base_url)
        expected.may_stay |= self.site.stored().keys() - expected.kept
        left = {each.id for each in self.site.uploads()}
        expected.uploads = {key: expected.uploads[key] for key in expected.uploads if key in left}

    def untidy(self, *uris: str) -> None:
        """These records may have been written without the plugin's hearing of it: what they show
        may stay."""
        self.is_tidy = False
        expected = self.expected
        names = {expected.name_of(expected.records.get(uri)) for uri in uris}
        names |= {expected.shows.get(uri) for uri in uris}
        expected.may_stay |= {name for name in names if name is not None}

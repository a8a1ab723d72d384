"""What other plugins do, through Kinto's storage, with events or without."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import rule

from tests.model.clients import existing, has_records
from tests.model.days import collection_uri, record_uri, records
from tests.model.known import unless_known
from tests.model.resumable import ResumableUploads

INCLUDES = """
    kinto.plugins.default_bucket kinto.plugins.flush kinto_attachment
    tests.plugins.copying_records tests.plugins.rolling_back tests.plugins.writing_silently
    tests.plugins.refusing_on_request
"""

WORKSPACES = ["work", "named"]
PUBLISHED = ["kept", "named", "work"]

workspaces = st.sampled_from(WORKSPACES)
published = st.sampled_from(PUBLISHED)


class OtherPlugins(ResumableUploads):
    """A day of clients, on a site with plugins that write records."""

    @has_records
    @rule(source=workspaces, goal=published)
    def publish(self, source: str, goal: str) -> None:
        """Records are copied to another collection; the events say so."""
        if source == goal:
            return
        uris = self.two(source, goal)
        response = self.request("PUT", uris[0], {"data": {"publish": goal}})
        if response.status_code >= 400:
            assert not self.is_tidy, response.text
            self.refused(response)
            return
        self.make_same(uris[1], uris[0])

    @unless_known("rolled back")
    @has_records
    @rule(source=workspaces, goal=published)
    def roll_back(self, source: str, goal: str) -> None:
        """The workspace is made what was published; the events name the published records."""
        if source == goal:
            return
        uris = self.two(source, goal)
        self.untidy(*self.expected.below(f"{uris[0]}/"), *self.expected.below(f"{uris[1]}/"))
        response = self.request("PUT", uris[0], {"data": {"roll_back_to": goal}})
        if response.status_code >= 400:
            self.refused(response)
            return
        self.make_same(uris[0], uris[1], silently=True)

    @unless_known("rolled back")
    @has_records
    @rule(source=existing, goal=records)
    def copy_silently(self, source: str, goal: str) -> None:
        uris = record_uri(source), self.in_collection(goal)
        self.untidy(*uris)
        self.silently(f"copy {uris[0]} {uris[1]}", goal)
        self.expected.records[uris[1]] = self.expected.records[uris[0]]

    @has_records
    @rule(record=existing)
    def delete_silently(self, record: str) -> None:
        uri = record_uri(record)
        self.untidy(uri)
        self.silently(f"delete {uri}", record)
        del self.expected.records[uri]

    def silently(self, what: str, record: str) -> None:
        """Have a plugin do it while a collection is written."""
        collection = collection_uri(record.rpartition("/")[0])
        response = self.request("PUT", collection, {"data": {}}, {"Silently": what})
        assert response.status_code == 200

    def two(self, source: str, goal: str) -> tuple[str, str]:
        """The URIs of two collections, which exist."""
        names = f"a/{source}", f"a/{goal}"
        for each in names:
            self.ensure(each)
        return collection_uri(names[0]), collection_uri(names[1])

    def make_same(self, uri: str, model: str, *, silently: bool = False) -> None:
        """The records of a collection were made the same as those of another."""
        expected = self.expected
        copies = {
            each.replace(model, uri, 1): expected.records[each]
            for each in expected.below(f"{model}/")
        }
        gone = [each for each in expected.below(f"{uri}/") if each not in copies]
        if silently:
            for each in gone:
                del expected.records[each]
            gone = [each.replace(uri, model, 1) for each in gone]
        expected.delete(*gone)
        expected.records.update(copies)

"""What clients do: they upload, edit, copy and delete."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.days import (
    Day,
    collection_uri,
    record_uri,
    records,
    title_of,
)
from tests.model.expected import Attachment
from tests.model.known import KNOWN, unless_known

contents = st.sampled_from(["new", "same", ""])
filenames = st.sampled_from(["file.txt", "other.txt", "folder"]).filter(
    lambda name: name != "folder" or "folders" not in KNOWN
)

existing = st.runner().flatmap(
    lambda day: st.sampled_from(sorted(map(title_of, day.expected.records)))
)
showing = st.runner().flatmap(
    lambda day: st.sampled_from(sorted(map(title_of, day.with_attachment)))
)
has_records = precondition(lambda day: day.expected.records)
has_attachments = precondition(lambda day: day.with_attachment)

restored = st.booleans().filter(lambda restored: not restored or "restored" not in KNOWN)
refused = st.runner().flatmap(
    lambda day: st.booleans() if day.is_transactional or "undone" not in KNOWN else st.just(False)
)

REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "another id": ({"data": {"id": "another"}}, {}),
    "no object": ({"data": ["no object"]}, {}),
    "permissions": ({"permissions": {"unknown": []}}, {}),
    "changed": ({}, {"If-Match": '"1"'}),
    "a plugin": ({}, {"Refuse": "yes"}),
}


class Clients(Day):
    """A day of clients."""

    @property
    def with_attachment(self) -> list[str]:
        """The URIs of records with an attachment."""
        return [uri for uri, attachment in self.expected.records.items() if attachment]

    @rule(record=records, content=contents, filename=filenames)
    def upload(self, record: str, content: str, filename: str) -> None:
        uri = self.in_collection(record)
        response = self.attach(uri, self.expected.content(content), filename)
        assert response.status_code == (200 if uri in self.expected.records else 201)
        self.expected.attached(uri, response.json, self.site.base_url)

    @rule(record=records, why=st.sampled_from(sorted(REFUSALS)), filename=filenames)
    def upload_in_vain(self, record: str, why: str, filename: str) -> None:
        uri = self.in_collection(record)
        fields, headers = REFUSALS[why]
        content = self.expected.content("new")
        self.refused(self.attach(uri, content, filename, headers, **fields))

    @has_records
    @rule(record=existing)
    def detach(self, record: str) -> None:
        uri = record_uri(record)
        assert self.request("DELETE", f"{uri}/attachment").status_code == 204
        self.expected.records[uri] = None

    @has_records
    @rule(record=existing, method=st.sampled_from(["PUT", "PATCH"]))
    def write_without(self, record: str, method: str) -> None:
        uri = record_uri(record)
        data = {} if method == "PUT" else {"attachment": None}
        assert self.request(method, uri, {"data": data}).status_code == 200
        self.expected.records[uri] = None

    @has_records
    @rule(record=existing, how=st.sampled_from(["title", "permissions", "everything"]))
    def edit(self, record: str, how: str) -> None:
        """What is sent back unchanged is never refused."""
        uri = record_uri(record)
        if how == "everything":
            data = self.request("GET", uri).json["data"]
            response = self.request("PUT", uri, {"data": {**data, "title": "edited"}})
        else:
            changes = {"permissions": {"read": ["system.Everyone"]}}
            body = {"data": {"title": "edited"}} if how == "title" else changes
            response = self.request("PATCH", uri, body)
        attachment = self.expected.records[uri]
        if attachment is None or self.expected.is_known(attachment) or "edits" not in KNOWN:
            assert response.status_code == 200, response.text
        elif response.status_code != 200:
            self.refused(response)

    @has_attachments
    @rule(source=showing, record=records, method=st.sampled_from(["PUT", "PATCH", "POST"]))
    def copy(self, source: str, record: str, method: str) -> None:
        uri = self.in_collection(record)
        if method == "PATCH" and uri not in self.expected.records:
            method = "PUT"
        attachment = self.expected.records[record_uri(source)]
        status = self.write(method, uri, attachment)
        if self.expected.is_known(attachment):
            assert status in (200, 201)
        # A POST with the id of a record that exists changes nothing.
        if status == 201 or (status == 200 and method != "POST"):
            self.expected.records[uri] = attachment

    @precondition(lambda day: day.expected.history)
    @rule(number=st.integers(0, 20), record=records)
    def write_what_once_was(self, number: int, record: str) -> None:
        """An old response is written back, whose file may have gone."""
        uri = self.in_collection(record)
        history = self.expected.history
        self.write_claim(uri, history[number % len(history)])

    @unless_known("claims")
    @has_attachments
    @rule(source=showing, record=records, how=st.sampled_from(["host", "filename", "hash"]))
    def claim(self, source: str, record: str, how: str) -> None:
        """Anybody may write what looks like a file, where no file was before."""
        uri = self.in_collection(record)
        attachment = dict(self.expected.records[record_uri(source)] or {})
        if how == "host":
            attachment["location"] = f"https://else.example.net/{attachment['location']}"
        else:
            attachment[how] = "claimed"
        self.write_claim(uri, attachment)

    @has_records
    @rule(record=existing, restored=restored)
    def delete(self, record: str, restored: bool) -> None:
        """A plugin may restore the record before the transaction ends."""
        uri = record_uri(record)
        headers = {"Silently": "restore"} if restored else {}
        if restored:
            self.untidy(uri)
        assert self.request("DELETE", uri, None, headers).status_code == 200
        attachment = self.expected.records[uri]
        self.expected.delete(uri)
        if restored:
            self.expected.records[uri] = attachment

    @has_records
    @rule(
        record=existing,
        what=st.sampled_from(
            ["records", "collection", "collections", "bucket", "buckets", "flush"]
        ),
        restored=restored,
    )
    def delete_more(self, record: str, what: str, restored: bool) -> None:
        collection = collection_uri(record.rpartition("/")[0])
        bucket = collection.partition("/collections/")[0]
        if what == "records":
            self.delete_records(f"{collection}/records", restored)
        elif what == "flush":
            assert self.request("POST", "/__flush__").status_code == 202
            self.expected.flushed()
        else:
            path, uri = {
                "collection": (collection, collection),
                "collections": (f"{bucket}/collections", bucket),
                "bucket": (bucket, bucket),
                "buckets": ("/buckets", ""),
            }[what]
            assert self.request("DELETE", path).status_code == 200
            self.gone_below(uri)

    @has_attachments
    @rule(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["copy", "put", "null", "title", "wrong", "detach", "delete"]),
                existing | records,
                showing,
            ),
            min_size=2,
            max_size=6,
        ),
        refused=refused,
    )
    def batch(self, steps: list[tuple[str, str, str]], refused: bool) -> None:
        """Some of the requests may be refused, and in the end all of them."""
        requests, effects = [], []
        for kind, record, source in steps:
            uri = self.in_collection(record)
            attachment = self.expected.records[record_uri(source)]
            requests.append(_request(kind, uri, attachment))
            effects.append((kind, uri, attachment))
        headers = {"Refuse": "yes"} if refused else {}
        response = self.request("POST", "/batch", {"requests": requests}, headers)
        if response.status_code != 200:
            self.refused(response)
            return
        for each, (kind, uri, attachment) in zip(response.json["responses"], effects, strict=True):
            assert each["status"] < 500, each
            if each["status"] < 400:
                self.effect(kind, uri, attachment)

    def delete_records(self, uri: str, restored: bool) -> None:
        """Delete all the records of a collection, which a plugin may restore."""
        below = self.expected.below(f"{uri}/")
        if restored:
            self.untidy(*below)
        headers = {"Silently": "restore"} if restored else {}
        assert self.request("DELETE", uri, None, headers).status_code == 200
        attachments = {each: self.expected.records[each] for each in below}
        self.expected.delete(*below)
        if restored:
            self.expected.records.update(attachments)

    def effect(self, kind: str, uri: str, attachment: Attachment | None) -> None:
        """A request of a batch has succeeded."""
        assert kind != "wrong"
        if kind == "delete":
            self.expected.delete(uri)
        elif kind != "title":
            self.expected.records[uri] = attachment if kind == "copy" else None

    def write(self, method: str, uri: str, attachment: Attachment | None) -> int:
        """Write a record with an attachment; return the status."""
        path, body = uri, _data(attachment)
        if method == "POST":
            path, _, body["data"]["id"] = uri.rpartition("/")
        response = self.request(method, path, body)
        if response.status_code >= 400:
            self.refused(response)
        return response.status_code

    def write_claim(self, uri: str, attachment: Attachment) -> None:
        """Write what may be refused, and is plain data for the plugin otherwise."""
        is_copy = attachment in self.expected.records.values()
        if self.write("PUT", uri, attachment) in (200, 201):
            self.expected.records[uri] = attachment
            if not is_copy:
                self.untidy(uri)

    def in_collection(self, record: str) -> str:
        """The URI of a record, whose collection exists then."""
        self.ensure(record.rpartition("/")[0])
        return record_uri(record)

    def gone_below(self, uri: str) -> None:
        """A bucket or a collection was deleted, and all below."""
        expected = self.expected
        expected.delete(*expected.below(f"{uri}/"))
        expected.collections = {
            each for each in expected.collections if not f"{each}/".startswith(f"{uri}/")
        }
        expected.uploads = {
            key: each
            for key, each in expected.uploads.items()
            if each.uri.partition("/records/")[0] in expected.collections
        }


def _data(attachment: Attachment | None) -> dict[str, Any]:
    return {"data": {"attachment": attachment}}


def _request(kind: str, uri: str, attachment: Attachment | None) -> dict[str, Any]:
    method, path, body = {
        "copy": ("PUT", uri, _data(attachment)),
        "put": ("PUT", uri, {"data": {}}),
        "null": ("PATCH", uri, _data(None)),
        "title": ("PATCH", uri, {"data": {"title": "batch"}}),
        "wrong": ("PUT", uri, {"data": {"id": "another"}}),
        "detach": ("DELETE", f"{uri}/attachment", None),
        "delete": ("DELETE", uri, None),
    }[kind]
    request = {"method": method, "path": f"/v1{path}"}
    return request if body is None else {**request, "body": body}

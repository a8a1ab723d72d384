"""What an operator does, on a site with PostgreSQL: commands, and processes that are killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule

from tests.model.clients import has_attachments, showing
from tests.model.days import collection_uri, record_uri, records
from tests.model.known import unless_known, unless_moved
from tests.model.plugins import OtherPlugins
from tests.model.resumable import has_uploads, numbers

AT_ONCE = ("--older-than", "0s")


class Operator(OtherPlugins):
    """A day of clients and plugins, and of an operator."""

    @unless_moved
    @rule()
    def collect_garbage(self) -> None:
        self.gc()

    @unless_moved
    @rule(kept=st.booleans())
    def only_look(self, kept: bool) -> None:
        """Neither command without its option changes anything."""
        before = self.site.stored()
        self.site.command("gc", *AT_ONCE, *(("--kept-older-than", "0s") if kept else ()))
        self.check_files()
        assert self.site.stored() == before

    @unless_moved
    @unless_known("gc")
    @has_uploads
    @rule(number=numbers)
    def collect_garbage_while_an_upload_ends(self, number: int) -> None:
        key, upload = self.an_upload(number)
        if upload.has_expired:
            return
        rest = upload.content[upload.sent :]
        headers = {} if upload.length_known else {"Upload_Length": str(len(upload.content))}

        def end() -> None:
            assert self.patch(upload, rest, **headers).status_code == 204
            del self.expected.uploads[key]
            self.attached(upload)

        self.gc(end)

    @unless_moved
    @has_attachments
    @rule(source=showing, goal=records)
    def collect_garbage_while_a_record_is_copied(self, source: str, goal: str) -> None:
        uri = self.in_collection(goal)
        attachment = self.expected.records[record_uri(source)]

        def copy() -> None:
            if self.write("PUT", uri, attachment) in (200, 201):
                self.expected.records[uri] = attachment

        self.gc(copy)

    @unless_moved
    @rule()
    def repair(self) -> None:
        self.site.command("check", *AT_ONCE, "--repair")
        answer = self.check_files()
        assert answer["counts"]["rows that differ"] == 0, answer["findings"]

    @has_attachments
    @rule(
        record=showing,
        what=st.sampled_from(["upload", "detach", "delete", "delete records", "delete all"]),
        steps=st.integers(0, 40),
    )
    def kill(self, record: str, what: str, steps: int) -> None:
        """The process is killed in the course of a request."""
        uri = record_uri(record)
        collection = collection_uri(record.rpartition("/")[0])
        content = self.expected.content("new")
        requests: dict[str, Callable[[], Any]] = {
            "upload": lambda: self.site.record(uri).attach(content, status="*"),
            "detach": lambda: self.request("DELETE", f"{uri}/attachment"),
            "delete": lambda: self.request("DELETE", uri),
            "delete records": lambda: self.request("DELETE", f"{collection}/records"),
            "delete all": lambda: self.request("DELETE", collection),
        }
        self.killed(steps, requests[what], uri if what in ("upload", "detach") else collection)

    @has_uploads
    @rule(number=numbers, steps=st.integers(0, 60))
    def kill_as_an_upload_ends(self, number: int, steps: int) -> None:
        _, upload = self.an_upload(number)
        rest = upload.content[upload.sent :]
        headers = {} if upload.length_known else {"Upload_Length": str(len(upload.content))}
        self.killed(steps, lambda: self.patch(upload, rest, **headers), upload.uri)

    def killed(self, steps: int, request: Callable[[], Any], where: str) -> None:
        """The process is killed, and the records below ``where`` may have changed."""
        before = dict(self.expected.records)
        self.site.kill_in(steps, request)
        # The lease of the killed process runs out.
        self.site.change_uploads(lambda upload: replace(upload, owner=None, leased_until=0))
        collections = self.site.collections()
        self.expected.collections &= collections
        self.uncertain()
        for uri, attachment in before.items():
            if not f"{uri}/".startswith(f"{where}/"):
                assert self.expected.records.get(uri, "gone") == attachment
        for uploads in self.site.uploads():
            upload = self.expected.uploads[uploads.id]
            assert uploads.stored >= upload.sent
            upload.sent, upload.was_killed = uploads.offset, True
            upload.length_known = uploads.length is not None

    def gc(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Delete what nobody shows: nothing else is left then."""
        answer = self.site.command("gc", "--delete", *AT_ONCE, meanwhile=meanwhile)
        assert answer["status"] == 0, answer
        expected = self.expected
        for key in [key for key, each in expected.uploads.items() if each.has_expired]:
            del expected.uploads[key]
        if meanwhile is None:
            self.look()
            expected.may_stay &= {*expected.shows.values(), *expected.may_be_kept}
            self.look()

    def check_files(self) -> dict[str, Any]:
        """Look whether every record has its file."""
        answer = self.site.command("check", *AT_ONCE, "--hash")
        missing = {
            each["record"] for each in answer["findings"] if each["problem"] in ("missing", "hash")
        }
        assert not missing & self.expected.shows.keys()
        assert not missing or not self.is_tidy
        return answer

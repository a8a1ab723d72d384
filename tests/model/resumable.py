"""What clients of resumable uploads do, a request at a time."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.clients import Clients, contents, filenames
from tests.model.days import records
from tests.model.expected import Upload
from tests.model.site import answered
from tests.support import tus

numbers = st.integers(0, 3)
has_uploads = precondition(lambda day: day.expected.uploads)


class ResumableUploads(Clients):
    """A day of clients, some of whom speak tus."""

    @rule(
        record=records,
        content=contents,
        filename=filenames,
        first=numbers,
        deferred=st.booleans(),
    )
    def begin(self, record: str, content: str, filename: str, first: int, deferred: bool) -> None:
        """The first bytes may come with it, or all of them; the length may be said later."""
        uri = self.in_collection(record)
        whole = self.expected.content(content)
        sent = whole[:first]
        length = {"Upload_Defer_Length": "1"} if deferred else {"Upload_Length": str(len(whole))}
        response = answered(
            tus.creation(
                self.site.record(uri),
                sent,
                "*",
                tus.OFFSET_TYPE if sent else None,
                Upload_Metadata=tus.metadata(filename=filename),
                **length,
            )
        )
        assert response.status_code == 201, response.text
        path = response.headers["Location"].removeprefix("http://localhost")
        upload = Upload(uri, path, whole, not deferred, len(sent))
        # The next one to a record ends those that have expired.
        left = {each.id for each in self.site.uploads()}
        for key in [key for key in self.expected.uploads if key not in left]:
            assert self.expected.uploads.pop(key).has_expired
        if not deferred and sent == whole:
            self.attached(upload)
        else:
            self.expected.uploads[path.rpartition("/")[2]] = upload

    @has_uploads
    @rule(number=numbers, size=st.sampled_from([0, 1, 1000]), say_length=st.booleans())
    def append(self, number: int, size: int, say_length: bool) -> None:
        key, upload = self.an_upload(number)
        content = upload.content[upload.sent : upload.sent + size]
        said = say_length and not upload.length_known
        headers = {"Upload_Length": str(len(upload.content))} if said else {}
        response = self.patch(upload, content, **headers)
        if upload.has_expired:
            assert response.status_code in (404, 410)
            return
        assert response.status_code == 204, response.text
        offset = int(response.headers["Upload-Offset"])
        # Where a process was killed, the file may be whole before its last byte is acknowledged.
        assert offset - upload.sent - len(content) in ((0, 1) if upload.was_killed else (0,))
        upload.sent = offset
        upload.length_known = upload.length_known or said
        if upload.length_known and upload.sent == len(upload.content):
            del self.expected.uploads[key]
            self.attached(upload)

    @has_uploads
    @rule(number=numbers)
    def terminate(self, number: int) -> None:
        key, upload = self.an_upload(number)
        answer = tus.Upload(self.site.record(upload.uri), upload.path).send("DELETE", status="*")
        assert answered(answer).status_code == 204
        del self.expected.uploads[key]

    @has_uploads
    @rule()
    def time_passes(self) -> None:
        """All the uploads that have begun expire."""
        self.site.change_uploads(lambda upload: replace(upload, expires=1))
        for upload in self.expected.uploads.values():
            upload.has_expired = True

    def an_upload(self, number: int) -> tuple[str, Upload]:
        uploads = list(self.expected.uploads.items())
        return uploads[number % len(uploads)]

    def patch(self, upload: Upload, content: bytes, **headers: str) -> tus.TestResponse:
        client = tus.Upload(self.site.record(upload.uri), upload.path)
        return answered(client.patch(upload.sent, content, "*", **headers))

    def attached(self, upload: Upload) -> None:
        """The last byte was acknowledged."""
        attachment = self.shown()[upload.uri]
        assert attachment is not None
        self.expected.attached(upload.uri, attachment, self.site.base_url)
        assert self.expected.content_of(attachment) == upload.content

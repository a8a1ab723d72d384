"""The hidden objects and multipart uploads of an unfinished resumable file on S3.

All of them can be found by name: hidden objects start with the file's id, and no other file has
the key of its multipart uploads.
"""

from __future__ import annotations

import contextlib

from botocore.exceptions import ClientError

from kinto_attachment.storage import names
from kinto_attachment.storage.resumable import State
from kinto_attachment.storage.s3.bucket import Bucket, error_code, http_status


class HiddenObjects:
    """Those of the file of ``state``. Its methods raise boto3's errors."""

    def __init__(self, bucket: Bucket, state: State) -> None:
        self._bucket = bucket
        self._state = state
        self._id: str = state["id"]
        self.assembled = names.hidden(self._id)
        """The key of the object with the whole file, before it is copied to its name."""
        self.note = names.hidden(self._id, "name")
        """The key of an object that marks the file as unfinished. Its content is the name that
        ``finish()`` is about to store the file as."""
        self.multipart_key: str = self.assembled if state["keep_name"] else state["name"]
        """The key of the file's multipart uploads."""

    def incomplete_part(self, number: int) -> str:
        """Return the key of an object with the start of the part ``number``."""
        return names.hidden(self._id, str(number))

    def write_note(self, name: str) -> None:
        """Note the name that the file is about to get; an empty one if it is not known yet."""
        body = name.encode()
        self._bucket.client.put_object(Bucket=self._bucket.name, Key=self.note, Body=body)

    def read_note(self) -> str | None:
        """Return the noted name, an empty one if there is none yet; ``None`` without a note."""
        try:
            found = self._bucket.client.get_object(Bucket=self._bucket.name, Key=self.note)
        except ClientError as error:
            # AWS answers 403 for a missing key where s3:ListBucket is not permitted.
            if http_status(error) == 403:
                return ""
            if error_code(error) != "NoSuchKey":
                raise
            return None
        with contextlib.closing(found["Body"]) as body:
            name: str = body.read().decode()
            return name

    def remove(self) -> None:
        """Remove everything, also what a killed process has created after ``state``."""
        with contextlib.ExitStack() as steps:  # the last one first, each even if others fail
            steps.callback(self._remove_listed)
            steps.callback(self._bucket.abort_all, self.multipart_key)
            # The state names these: they go even where listing is not permitted.
            for number in self._state["tails"]:
                steps.callback(self._bucket.delete, self.incomplete_part(number))
            if self._state["upload_id"] is not None:
                steps.callback(self._bucket.abort, self.multipart_key, self._state["upload_id"])
        # Last: while any of the others is left the file can be resumed, and only the note says
        # that it is finished.
        if self._state["note"]:
            self._bucket.delete(self.note)

    def _remove_listed(self) -> None:
        prefix = names.hidden_prefix(self._id)
        pages = self._bucket.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket.name, Prefix=prefix):
            for entry in page.get("Contents", ()):
                if entry["Key"] != self.note:
                    self._bucket.delete(entry["Key"])

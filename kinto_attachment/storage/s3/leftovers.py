"""What a file that several requests send has on S3 besides the file itself, and how it goes.

All of it is found by its name: multipart uploads under the key that only this file has, and hidden
objects that start with the file's own id.
"""

from __future__ import annotations

import contextlib

from botocore.exceptions import ClientError

from kinto_attachment.storage import names
from kinto_attachment.storage.resumable import State
from kinto_attachment.storage.s3.bucket import Bucket, error_code, http_status
from kinto_attachment.storage.s3.requests import abort, abort_all

_NOTE = "name"


class Leftovers:
    """Those of the file of ``state``. Its methods raise boto3's errors."""

    def __init__(self, bucket: Bucket, state: State) -> None:
        self._bucket = bucket
        self._state = state
        self._id: str = state["id"]
        self.hidden = names.part(self._id)
        """The object that all parts make, where it is copied to the name that it gets."""
        self.note = names.part(self._id, _NOTE)
        """The object that says that the file is unfinished, and which name it may get."""
        self.upload_key: str = self.hidden if state["keep_name"] else state["name"]
        """What multipart uploads of the file are called."""

    def tail(self, number: int) -> str:
        """The object with the start of the part ``number``, where a state was taken in it."""
        return names.part(self._id, str(number))

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        try:
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)
        except ClientError as error:
            # AWS does not tell whether there was an object. Google's server does.
            if error_code(error) != "NoSuchKey":
                raise

    def write_note(self, name: str) -> None:
        """Make a note that the file is about to be stored as ``name``, or of no name yet."""
        body = name.encode()
        self._bucket.client.put_object(Bucket=self._bucket.name, Key=self.note, Body=body)

    def read_note(self) -> str | None:
        """The name that was noted, an empty one if there is none yet; ``None`` without a note."""
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
        """Remove everything, also what a killed process has made after ``state``."""
        with contextlib.ExitStack() as steps:  # the last one first, each whatever the others do
            steps.callback(self._remove_objects)
            steps.callback(abort_all, self._bucket, self.upload_key)
            # These are known, where the store does not let us look for more.
            for number in self._state["tails"]:
                steps.callback(self.delete, self.tail(number))
            if self._state["upload_id"] is not None:
                steps.callback(abort, self._bucket, self.upload_key, self._state["upload_id"])
        # Not before: with any of these the file could be resumed, and the note says that it has
        # been finished.
        if self._state["note"]:
            self.delete(self.note)

    def _remove_objects(self) -> None:
        prefix = names.part_prefix(self._id)
        pages = self._bucket.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket.name, Prefix=prefix):
            for entry in page.get("Contents", ()):
                if entry["Key"] != self.note:
                    self.delete(entry["Key"])

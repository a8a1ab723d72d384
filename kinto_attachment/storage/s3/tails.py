"""The tail of a file that several requests send to S3: what is less than a part waits in a hidden
object, since no part but the last may be smaller than 5 MiB."""

from __future__ import annotations

import contextlib

from botocore.exceptions import ClientError

from kinto_attachment.storage.resumable import State, attempt
from kinto_attachment.storage.s3.bucket import Bucket, error_code
from kinto_attachment.storage.s3.leftovers import Leftovers
from kinto_attachment.storage.s3.requests import Part, PutUpload

_CHUNK_SIZE = 256 * 1024


class Tails:
    """One object for each part in which a state was taken; those that no state needs go.

    A longer tail of the same part replaces a shorter one, which is its start. The others are
    needed as long as the caller may not have saved a newer state. Raises boto3's errors.
    """

    def __init__(self, bucket: Bucket, leftovers: Leftovers, state: State) -> None:
        self._bucket = bucket
        self._leftovers = leftovers
        self._numbers: set[int] = set(state["tails"])
        # Which tails other states need: the one that was resumed, the last one that was made.
        self._resumed: int | None = None
        self._last: tuple[int, int] | None = None

    @property
    def numbers(self) -> list[int]:
        """The parts of which there are tails."""
        return sorted(self._numbers)

    def read(self, number: int, length: int, part: Part) -> bool:
        """Fill ``part`` with its tail; whether it is there, with ``length`` bytes or more."""
        self._resumed, self._last = number, (number, length)
        if not length:
            return True
        key = self._leftovers.tail(number)
        try:
            found = self._bucket.client.get_object(
                Bucket=self._bucket.name, Key=key, Range=f"bytes=0-{length - 1}"
            )
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return False
        with contextlib.closing(found["Body"]) as body:
            for chunk in body.iter_chunks(_CHUNK_SIZE):
                part.fill(memoryview(chunk))
        return len(part) == length

    def keep(self, number: int, part: Part) -> None:
        """Make ``part``, which is not whole, durable, for another process to read."""
        if self._last == (number, len(part)):
            return
        needed = {number, self._resumed, self._last and self._last[0]}
        if len(part):
            # It is private: nobody is to see it.
            PutUpload(self._bucket, self._leftovers.tail(number), {}, part).complete()
            self._numbers.add(number)
        self._last = (number, len(part))
        for each in self._numbers - needed:
            if attempt("remove a tail", self._leftovers.delete, self._leftovers.tail(each)):
                self._numbers.discard(each)

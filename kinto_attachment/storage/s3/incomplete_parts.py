"""Incomplete parts: the end of a file that is not enough for a part yet, as hidden objects.

S3 wants every part but the last to have at least 5 MiB; requests of a resumable upload end
anywhere.
"""

from __future__ import annotations

import contextlib

from botocore.exceptions import ClientError

from kinto_attachment.storage.base import CHUNK_SIZE
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.resumable import State
from kinto_attachment.storage.s3.bucket import Bucket, error_code
from kinto_attachment.storage.s3.hidden_objects import HiddenObjects
from kinto_attachment.storage.s3.upload import PartBuffer, PutObject


class IncompleteParts:
    """One object for each part in which a checkpoint was taken, as long as a state needs it.

    A longer start of the same part replaces a shorter one. Those of earlier parts stay while the
    caller may not have persisted a newer state. Raises boto3's errors.
    """

    def __init__(self, bucket: Bucket, hidden: HiddenObjects, state: State) -> None:
        self._bucket = bucket
        self._hidden = hidden
        self._numbers: set[int] = set(state["tails"])
        # What other states need: the resumed one the first, the last checkpoint's the second.
        self._resumed: int | None = None
        self._last: tuple[int, int] | None = None

    @property
    def numbers(self) -> list[int]:
        """The numbers of the parts that have an object."""
        return sorted(self._numbers)

    def read(self, number: int, length: int, buffer: PartBuffer) -> bool:
        """Read ``length`` bytes of the part back into ``buffer``; ``False`` if they are gone."""
        self._resumed, self._last = number, (number, length)
        if not length:
            return True
        key = self._hidden.incomplete_part(number)
        try:
            found = self._bucket.client.get_object(
                Bucket=self._bucket.name, Key=key, Range=f"bytes=0-{length - 1}"
            )
        except ClientError as error:
            # An empty object has no range.
            if error_code(error) not in ("NoSuchKey", "InvalidRange"):
                raise
            return False
        with contextlib.closing(found["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK_SIZE):
                buffer.fill(memoryview(chunk))
        return len(buffer) == length

    def save(self, number: int, buffer: PartBuffer) -> None:
        """Make the content of ``buffer``, the start of a part, durable for another process."""
        if self._last == (number, len(buffer)):
            return
        in_use = {number, self._resumed, self._last and self._last[0]}
        if len(buffer):
            # Without an ACL: it is private.
            PutObject(self._bucket, self._hidden.incomplete_part(number), {}, buffer).complete()
            self._numbers.add(number)
        self._last = (number, len(buffer))
        for each in self._numbers - in_use:
            key = self._hidden.incomplete_part(each)
            if best_effort("remove an incomplete part", self._bucket.delete, key):
                self._numbers.discard(each)

"""An object of S3 that is being made, and does not replace another one.

What S3 may have stored although it reported a failure can be found: every object carries the mark
of the upload that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from kinto_attachment.storage.s3.bucket import Bucket, error_code, http_status
from kinto_attachment.storage.s3.requests import Part, PartsUpload, PutUpload, Whole, abort_all

_MARK = "upload"


class NewObject:
    """Makes the object, or several on the way to it. Raises boto3's errors."""

    def __init__(self, bucket: Bucket, attributes: Mapping[str, Any], mark: str) -> None:
        """``attributes`` are the object's, as boto3 calls them; ``mark`` is the upload's own."""
        self._bucket = bucket
        self._mark = mark
        self._attributes = {**attributes, "Metadata": {_MARK: mark}}
        self._left_behind: set[str] = set()
        self._lost_uploads: set[str] = set()

    def put(self, key: str, content: Part) -> PutUpload:
        """A request that stores ``content`` as ``key``."""
        return PutUpload(self._bucket, key, self._attributes, content)

    def parts(self, key: str) -> PartsUpload:
        """Start a multipart upload to ``key``."""
        return PartsUpload.create(self._bucket, key, self._attributes)

    def own_parts(self, key: str) -> PartsUpload:
        """The same for a ``key`` that nobody else has: if S3 may have started the upload although
        it reported a failure, ``remove_left_behind()`` finds it by the key."""
        try:
            return self.parts(key)
        except Exception as error:
            if not _is_certainly_undone(error):
                self._lost_uploads.add(key)
            raise

    def take(self, key: str, source: Part | Whole) -> bool:
        """Store ``source`` as ``key``, unless there is such an object."""
        with contextlib.ExitStack() as undo:
            upload: PartsUpload | PutUpload
            if isinstance(source, Part):
                upload = self.put(key, source)
            elif self.taken(key):
                return False
            else:
                upload = self.parts(key)
                undo.callback(upload.abort)
                upload.copy(source)
            took = self.complete_if_free(upload)
            if took:
                undo.pop_all()
        return took

    def complete_if_free(self, upload: PartsUpload | PutUpload) -> bool:
        """Make the object, unless there is one already."""
        # A store may look first and write later, or not heed the condition at all. Among the
        # threads of this process at least, the lock makes one step of it.
        with self._bucket.lock(upload.key):
            return self._complete_if_free(upload)

    def complete(self, upload: PartsUpload | PutUpload, **condition: str) -> None:
        """Make the object. Unless S3 has certainly not done so, ``remove_left_behind()`` looks
        for it."""
        self._left_behind.add(upload.key)
        try:
            upload.complete(**condition)
        except Exception as error:
            if _is_certainly_undone(error):
                self._left_behind.discard(upload.key)
            raise

    def taken(self, key: str) -> bool:
        """Whether there is an object ``key``."""
        try:
            return self._bucket.head(key) is not None
        except ClientError as error:
            # What AWS answers for a missing key where s3:ListBucket is not permitted. Then the
            # condition alone decides.
            if http_status(error) == 403 and self._bucket.conditional_writes:
                return False
            raise

    def size(self, key: str) -> int | None:
        """The size of the object that this upload has made of ``key``, in bytes, if it has."""
        head = self._bucket.head(key)
        if head is None or head["Metadata"].get(_MARK) != self._mark:
            return None
        size: int = head["ContentLength"]
        return size

    def remove_left_behind(self) -> None:
        """Remove what S3 has stored although it reported a failure."""
        with contextlib.ExitStack() as steps:  # every one of them, whichever fails
            for key in self._left_behind:
                steps.callback(self._delete_if_ours, key)
            for key in self._lost_uploads:
                steps.callback(abort_all, self._bucket, key)

    def _complete_if_free(self, upload: PartsUpload | PutUpload) -> bool:
        if self.taken(upload.key):
            return False
        if self._bucket.conditional_writes:
            try:
                self.complete(upload, IfNoneMatch="*")
                return True
            except ClientError as error:
                if http_status(error) in (409, 412):
                    # By ourselves, where boto3 has sent the request again after a lost answer.
                    return self.size(upload.key) is not None
                if not _is_unknown_condition(error):
                    raise
            if self._bucket.head(upload.key) is not None:
                return False
        self.complete(upload)
        self._bucket.conditional_writes = False
        return True

    def _delete_if_ours(self, key: str) -> None:
        if self.size(key) is not None:
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)


def _is_certainly_undone(error: Exception) -> bool:
    """Whether S3 has not done what it was asked for; else it may have."""
    if isinstance(error, ClientError):
        return http_status(error) < 500 or _is_unknown_condition(error)
    return isinstance(error, (ConnectTimeoutError, EndpointConnectionError))


def _is_unknown_condition(error: ClientError) -> bool:
    """Whether the store says that it does not know conditional writes."""
    code = error_code(error)
    return http_status(error) == 501 or code in ("NotImplemented", "InvalidArgument")

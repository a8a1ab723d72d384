"""An object on its way to S3, that does not replace another one.

S3 may have stored an object although it reported a failure. Such an object can be found: each
carries the mark of the upload that made it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from kinto_attachment.storage.base import NewFile
from kinto_attachment.storage.s3.bucket import (
    Bucket,
    error_code,
    http_status,
    is_unknown_condition,
)
from kinto_attachment.storage.s3.upload import MultipartUpload, PartBuffer, PutObject, StoredObject

logger = logging.getLogger(__name__)

_MARK = "upload"
SHA256 = "sha256"
"""The name of the metadata that has ``NewFile.sha256``."""


def attributes_of(new: NewFile, default_acl: str) -> dict[str, str]:
    """Return the attributes of the object for ``new``, in boto3's names; an empty ACL is none."""
    attributes = {
        "ContentType": new.content_type,
        "ACL": default_acl if new.acl is None else new.acl,
        "CacheControl": new.cache_control,
    }
    return {name: value for name, value in attributes.items() if value}


def metadata_of(head: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an answer to HeadObject."""
    # Names of header fields have no case (RFC 9110, section 5.1): rclone answers "Upload".
    return {name.lower(): value for name, value in head["Metadata"].items()}


class NewObject:
    """Creates the object, and others on the way to it. Raises boto3's errors."""

    def __init__(
        self, bucket: Bucket, attributes: Mapping[str, str], mark: str, sha256: str | None = None
    ) -> None:
        """``attributes`` are those of the object, in boto3's names; ``mark`` is the id of the
        upload; ``sha256`` is that of the content, if it is known."""
        self._bucket = bucket
        self._mark = mark
        metadata = {_MARK: mark} | ({SHA256: sha256} if sha256 else {})
        self._attributes: dict[str, Any] = {**attributes, "Metadata": metadata}
        # What S3 may have created although it reported a failure.
        self._unconfirmed_objects: set[str] = set()
        self._unconfirmed_uploads: set[str] = set()

    def put(self, key: str, content: PartBuffer) -> PutObject:
        """Return the request that stores ``content`` as ``key``."""
        return PutObject(self._bucket, key, self._attributes, content)

    def start_multipart(self, key: str) -> MultipartUpload:
        """Start a multipart upload to ``key``."""
        return MultipartUpload.create(self._bucket, key, self._attributes)

    def start_multipart_to_own_key(self, key: str) -> MultipartUpload:
        """The same for a ``key`` of no other file: if S3 may have started the upload although it
        reported a failure, ``remove_unconfirmed()`` finds it by the key."""
        try:
            return self.start_multipart(key)
        except Exception as error:
            if not _has_certainly_failed(error):
                self._unconfirmed_uploads.add(key)
            raise

    def create_if_absent(self, key: str, source: PartBuffer | StoredObject) -> bool:
        """Store ``source`` as ``key``. Return ``False`` if there is such an object."""
        with contextlib.ExitStack() as undo:
            upload: MultipartUpload | PutObject
            if isinstance(source, PartBuffer):
                upload = self.put(key, source)
            elif self.exists(key):
                return False
            else:
                upload = self.start_multipart(key)
                undo.callback(upload.abort)
                if not upload.copy(source):
                    upload.abort()  # It may have a part, an empty one.
                    upload = self.start_multipart(key)
                    undo.callback(upload.abort)
                    upload.send_again(source)
            created = self.complete_if_absent(upload)
            if created:
                undo.pop_all()
                self._check_conditions(upload)
        return created

    def complete_if_absent(self, upload: MultipartUpload | PutObject) -> bool:
        """Complete ``upload``. Return ``False`` if there is such an object."""
        # A store may look first and write later, or ignore the condition. The lock makes it one
        # step, at least among the threads of this process.
        with self._bucket.lock(upload.key):
            return self._complete_if_absent(upload)

    def complete(self, upload: MultipartUpload | PutObject, **condition: str) -> None:
        """Complete ``upload``. Unless S3 has certainly not done so, ``remove_unconfirmed()``
        removes the object."""
        self._unconfirmed_objects.add(upload.key)
        try:
            upload.complete(**condition)
        except Exception as error:
            # It may be completed: boto3 repeats a request whose answer was lost.
            if _is_no_such_upload(error) and self.own_size(upload.key) == upload.size:
                return
            if _has_certainly_failed(error):
                self._unconfirmed_objects.discard(upload.key)
            raise

    def delete(self, key: str) -> None:
        """Delete the object ``key``, which this upload has made."""
        self._bucket.delete_unchanged(key)
        self._unconfirmed_objects.discard(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object ``key``."""
        try:
            return self._bucket.head(key) is not None
        except ClientError as error:
            # AWS's answer for a missing key where s3:ListBucket is not permitted. Then only the
            # condition decides.
            if http_status(error) == 403 and self._bucket.conditional_writes:
                return False
            raise

    def own_size(self, key: str) -> int | None:
        """Return the size in bytes of the object ``key``, if this upload has made it."""
        head = self._bucket.head(key)
        if head is None or metadata_of(head).get(_MARK) != self._mark:
            return None
        size: int = head["ContentLength"]
        return size

    def remove_unconfirmed(self) -> None:
        """Remove what S3 has created although it reported a failure."""
        with contextlib.ExitStack() as steps:  # each of them, whichever fails
            for key in self._unconfirmed_objects:
                steps.callback(self._delete_if_own, key)
            for key in self._unconfirmed_uploads:
                steps.callback(self._bucket.abort_all, key)

    def _complete_if_absent(self, upload: MultipartUpload | PutObject) -> bool:
        if self.exists(upload.key):
            return False
        if self._bucket.conditional_writes:
            try:
                self.complete(upload, IfNoneMatch="*")
                return True
            except ClientError as error:
                if http_status(error) in (409, 412):
                    # It may be this upload's own: boto3 repeats a request whose answer was lost.
                    return self.own_size(upload.key) is not None
                if not is_unknown_condition(error):
                    raise
            if self._bucket.head(upload.key) is not None:
                return False
        self.complete(upload)
        self._bucket.conditional_writes = False
        return True

    def _check_conditions(self, created: MultipartUpload | PutObject) -> None:
        """Log, once, if the store has no conditional writes."""
        if self._bucket.conditions_checked or isinstance(created, MultipartUpload):
            return
        self._bucket.conditions_checked = True
        if self._bucket.conditional_writes:
            try:
                # A store that ignores the condition stores the same content once more.
                created.complete(IfNoneMatch="*")
            except Exception:
                # It refuses; or it is down, but the object is stored.
                return
            self._bucket.conditional_writes = False
        logger.warning(
            "The server of bucket %r has no conditional writes (If-None-Match). With "
            "randomize = false, two processes may store two files under one name at once, and "
            "lose one of them.",
            self._bucket.name,
        )

    def _delete_if_own(self, key: str) -> None:
        if self.own_size(key) is not None:
            self._bucket.delete_unchanged(key)


def _is_no_such_upload(error: Exception) -> bool:
    return isinstance(error, ClientError) and error_code(error) == "NoSuchUpload"


def _has_certainly_failed(error: Exception) -> bool:
    """Whether S3 has not done what it was asked for; otherwise it may have."""
    if isinstance(error, ClientError):
        return http_status(error) < 500 or is_unknown_condition(error)
    return isinstance(error, (ConnectTimeoutError, EndpointConnectionError))

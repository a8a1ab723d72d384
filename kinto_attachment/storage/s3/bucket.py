"""One bucket of S3, or of a server that speaks S3: its client, its errors, simple requests.

The boto3 client is created once per process, when it is first needed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from kinto_attachment.storage.base import FileTooLargeForStorage, StorageUnavailable
from kinto_attachment.storage.options import S3Options
from kinto_attachment.storage.s3.checksums import Checksums

# Seconds. Some servers join the parts of a large file before they answer.
_READ_TIMEOUT = 60.0
_CONNECTIONS = 50
_LOCKS = 64
# The codes of S3, of Ceph, and of MinIO.
_TOO_LARGE = ("EntityTooLarge", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded")


class Bucket:
    """The bucket of ``options``, for all the threads of a process. Unless said otherwise, its
    methods raise boto3's errors."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self.name = options.bucket
        self.conditional_writes = True
        """``False`` once the store has refused ``If-None-Match: *``, or ignored it."""
        self.conditions_checked = False
        """Whether it is known if the store ignores it."""
        self.on_retry: Callable[[], object] = lambda: None
        """Called when boto3 repeats a request."""
        self.second_buffer = threading.Semaphore()
        """Held by the one upload that has two parts in memory."""
        self.checksums = Checksums(options.sign_payload)
        self._client: Any = None
        self._client_pid = 0
        self._client_lock = threading.Lock()
        self._name_locks = tuple(threading.Lock() for _ in range(_LOCKS))

    @property
    def client(self) -> Any:
        """The boto3 client. Raises ``StorageUnavailable`` if the options are invalid."""
        # Not shared across fork(): both processes would use one connection.
        if self._client_pid != os.getpid():
            with self._client_lock:
                if self._client_pid != os.getpid():
                    client = _make_client(self.options)
                    self.checksums.register(client)
                    client.meta.events.register("request-created.s3", self._on_request)
                    self._client = client
                    self._client_pid = os.getpid()
        return self._client

    def _on_request(self, request: Any, **_: Any) -> None:
        if request.context["retries"]["attempt"] > 1:
            self.on_retry()

    def head(self, key: str) -> dict[str, Any] | None:
        """Return the answer to HeadObject; ``None`` if there is no such object."""
        try:
            head: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
            return head
        except ClientError as error:
            if http_status(error) != 404:
                raise
        # A missing bucket is a 404 as well, and only the body of an answer says which.
        try:
            self.client.get_object(Bucket=self.name, Key=key)["Body"].close()
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
        return None

    def delete(self, key: str) -> bool:
        """Delete an object. Return ``False`` if the store says that there was none: Google's
        does, AWS does not."""
        try:
            self.client.delete_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return False
        return True

    def delete_unchanged(self, key: str) -> bool:
        """Delete an object, but none that takes its place meanwhile: boto3 repeats a request
        whose answer was lost, and another upload may get the name in between. Return ``False`` if
        there was none.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
        """
        head = self.head(key)
        if head is None:
            return False
        try:
            self.client.delete_object(Bucket=self.name, Key=key, IfMatch=head["ETag"])
        except ClientError as error:
            if is_unknown_condition(error):
                return self.delete(key)
            if error_code(error) not in ("NoSuchKey", "PreconditionFailed"):
                raise
        return True

    def abort(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload. Does nothing if it is completed or aborted."""
        try:
            self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise

    def abort_all(self, key: str) -> None:
        """Abort every multipart upload to ``key``, which has a UUID: no other key starts with
        it."""
        for upload in self.uploads(key):
            self.abort(upload["Key"], upload["UploadId"])

    def uploads(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Yield the unfinished multipart uploads to keys with ``prefix``, in boto3's terms."""
        pages = self.client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                yield from page.get("Uploads", ())
        except ClientError as error:
            # What rclone answers before the first one.
            if error_code(error) != "NoSuchUpload":
                raise

    def lock(self, key: str) -> threading.Lock:
        """Return the lock to hold while the object ``key`` is created; some keys share one."""
        return self._name_locks[hash(key) % _LOCKS]

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn boto3's errors into ``StorageUnavailable`` ("cannot (doing) in bucket..."), or into
        ``FileTooLargeForStorage``."""
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error, HTTPError) as error:
            is_final = isinstance(error, ClientError) and error_code(error) in _TOO_LARGE
            kind = FileTooLargeForStorage if is_final else StorageUnavailable
            advice = self._advice(error)
            raise kind(f"cannot {doing} in bucket {self.name!r}: {error}{advice}") from error

    def _advice(self, error: Exception) -> str:
        """Return which option to change if ``error`` may be about the ACL.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
        """
        if (
            self.options.acl
            and isinstance(error, ClientError)
            and error.operation_name in ("PutObject", "CreateMultipartUpload")
            and error_code(error) in ("AccessControlListNotSupported", "AccessDenied")
        ):
            acl = self.options.acl
            return f"; if the bucket does not allow the ACL {acl!r}, leave aws.acl empty"
        return ""


def http_status(error: ClientError) -> int:
    """Return the HTTP status of S3's answer."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def error_code(error: ClientError) -> str:
    """Return S3's error code.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    return error.response.get("Error", {}).get("Code", "")


def is_unknown_condition(error: ClientError) -> bool:
    """Whether the store does not know conditional requests."""
    code = error_code(error)
    return http_status(error) == 501 or code in ("NotImplemented", "InvalidArgument")


def _make_client(options: S3Options) -> Any:
    addressing: dict[str, Any] = (
        {"s3": {"addressing_style": "path"}} if options.use_path_style else {}
    )
    try:
        # Not boto3.client(): its default session is shared, and not thread-safe.
        return Session().client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            config=Config(
                # Of URLs, too: some regions would get version 2, which newer ones refuse.
                signature_version="s3v4",
                connect_timeout=options.timeout,
                read_timeout=max(_READ_TIMEOUT, options.timeout),
                retries={"mode": "standard", "total_max_attempts": options.num_retries + 1},
                max_pool_connections=_CONNECTIONS,
                # Many servers that speak S3 do not know boto3's default, a CRC32 in a trailer.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                **addressing,
            ),
        )
    except (BotoCoreError, ValueError, OSError) as error:
        raise StorageUnavailable(
            f"cannot make a client for bucket {options.bucket!r}: {error}"
        ) from error

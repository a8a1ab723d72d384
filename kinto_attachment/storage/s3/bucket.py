"""One bucket of S3, or of a server that speaks S3: how to reach it, and what its answers mean.

The boto3 client is made once per process, when it is first needed. What boto3 raises leaves the
storage package only as ``StorageUnavailable`` or ``FileNotFoundError``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from kinto_attachment.storage.base import StorageUnavailable

# Long enough for a server that joins the parts of a large file before it answers.
_READ_TIMEOUT = 60.0
_CONNECTIONS = 50
_LOCKS = 64


@dataclass(frozen=True)
class S3Options:
    """How to reach a bucket, and what to store in it.

    ``acl`` is a canned ACL; with ``""`` none is sent. Without keys, boto3's own chain is asked
    (environment, configuration files, instance role). ``endpoint_url`` is that of a server that
    speaks S3; ``host``, ``port`` and ``is_secure`` are another way to write it; with neither, it
    is AWS. ``num_retries`` is how often a failed request is tried again, ``timeout`` how many
    seconds a connection may take.
    """

    bucket: str
    acl: str = "public-read"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint_url: str | None = None
    host: str | None = None
    port: int | None = None
    is_secure: bool = True
    use_path_style: bool = False
    num_retries: int = 1
    timeout: float = 5

    @property
    def endpoint(self) -> str | None:
        """The URL of the server; ``None`` is AWS."""
        if self.endpoint_url or not self.host:
            return self.endpoint_url or None
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self.is_secure else 'http'}://{self.host}{port}"


class Bucket:
    """The bucket of ``options``, for all the threads of a process."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self.name = options.bucket
        self.conditional_writes = True
        """Whether the store does what ``If-None-Match: *`` asks for, as far as we know."""
        self.spare_part = threading.Semaphore()
        """For whoever holds two parts of an upload in memory."""
        self._client: Any = None
        self._client_pid = 0
        self._client_lock = threading.Lock()
        self._name_locks = tuple(threading.Lock() for _ in range(_LOCKS))

    @property
    def client(self) -> Any:
        """The boto3 client. Raises ``StorageUnavailable`` if none can be made of the options."""
        # A client is not shared across fork(): both processes would talk on one connection.
        if self._client_pid != os.getpid():
            with self._client_lock:
                if self._client_pid != os.getpid():
                    self._client = _make_client(self.options)
                    self._client_pid = os.getpid()
        return self._client

    def head(self, key: str) -> dict[str, Any] | None:
        """What S3 knows of the object, ``None`` if it is missing. Raises boto3's errors."""
        try:
            head: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
            return head
        except ClientError as error:
            if http_status(error) != 404:
                raise
        # A missing bucket is a 404 as well, and the answer to HEAD has no body that says which.
        try:
            self.client.get_object(Bucket=self.name, Key=key)["Body"].close()
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
        return None

    def lock(self, key: str) -> threading.Lock:
        """A lock for whoever gives an object the name ``key``; some names share one."""
        return self._name_locks[hash(key) % _LOCKS]

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn boto3's errors into ``StorageUnavailable``: "cannot (doing) in bucket..."."""
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error, HTTPError) as error:
            raise StorageUnavailable(f"cannot {doing} in bucket {self.name!r}: {error}") from error


def http_status(error: ClientError) -> int:
    """The HTTP status of S3's answer."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def error_code(error: ClientError) -> str:
    """S3's error code. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    return error.response.get("Error", {}).get("Code", "")


def _make_client(options: S3Options) -> Any:
    addressing: dict[str, Any] = (
        {"s3": {"addressing_style": "path"}} if options.use_path_style else {}
    )
    try:
        # Not boto3.client(): its default session is shared, and not made for threads.
        return Session().client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            config=Config(
                connect_timeout=options.timeout,
                read_timeout=max(_READ_TIMEOUT, options.timeout),
                retries={"mode": "standard", "total_max_attempts": options.num_retries + 1},
                max_pool_connections=_CONNECTIONS,
                # boto3's default, CRC32 in a trailer, is unknown to many servers that speak S3;
                # the signature covers the content all the same.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                **addressing,
            ),
        )
    except (BotoCoreError, ValueError, OSError) as error:
        raise StorageUnavailable(
            f"cannot make a client for bucket {options.bucket!r}: {error}"
        ) from error

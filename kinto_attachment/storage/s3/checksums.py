"""What S3 compares with the content that it receives: a CRC32, or the SHA-256 of the signature.

A CRC32 costs a quarter of the SHA-256, which the record needs once more of the whole file. Not
every store compares it: those that do repeat it in their answer. Until one has, a request has
both.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from botocore.config import Config
from botocore.exceptions import ClientError

CRC32 = "ChecksumCRC32"
"""boto3's name of the checksum, in parameters and in answers."""

_HEADER = "x-amz-checksum-crc32"
# Of CreateMultipartUpload. Not of the parts' checksums: some stores do not list these, and
# another process has to complete the upload.
_OF_UPLOAD = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
# How stores refuse what they do not know, or a policy what is not signed.
_REFUSED = (400, 403, 501)
# What has nothing to do with how content is checked: it is damaged or too large, or came too late.
_OTHER = (
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "EntityTooLarge",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ExpiredToken",
)


class Content(Protocol):
    """Bytes in memory that boto3 can read like a file."""

    def pieces(self) -> Any:
        """Return them as an iterable that starts anew each time, with ``seek()``."""

    def seek(self, offset: int, /) -> int: ...


class Checksums:
    """The checksums of one bucket, for all the threads of a process. Raises boto3's errors."""

    def __init__(self, always_sign: bool) -> None:
        """With ``always_sign``, there is no CRC32."""
        self._compared: bool | None = False if always_sign else None
        """Whether the store compares it; ``None`` if that is not known yet."""

    def create_upload(self, operation: Callable[..., Any], **parameters: Any) -> Any:
        """Call ``CreateMultipartUpload``."""
        return self._call(operation, parameters, _OF_UPLOAD)

    def send(
        self, operation: Callable[..., Any], content: Content, crc32: str, **parameters: Any
    ) -> Any:
        """Call an ``operation`` whose body is ``content``; ``crc32`` is from ``encoded()``."""
        parameters["Body"] = content
        content.seek(0)
        answer = self._call(operation, parameters, {CRC32: crc32})
        if self._compared is None and answer.get(CRC32) == crc32:
            self._compared = True
        return answer

    def register(self, client: Any) -> None:
        """Have the requests of a boto3 client signed as needed."""
        config = client.meta.config
        s3: Any = {**(config.s3 or {}), "payload_signing_enabled": False}
        unsigned = config.merge(Config(s3=s3))

        def before_sign(request: Any, **_: Any) -> None:
            # The headers are signed. Over plain HTTP, too, boto3 signs no content then.
            if self._compared and _HEADER in request.headers:
                request.context["client_config"] = unsigned

        for operation in ("PutObject", "UploadPart"):
            client.meta.events.register(f"before-sign.s3.{operation}", before_sign)
            client.meta.events.register(f"before-send.s3.{operation}", _send_pieces)

    def _call(
        self,
        operation: Callable[..., Any],
        parameters: Mapping[str, Any],
        checked: Mapping[str, Any],
    ) -> Any:
        """Call ``operation`` with the parameters ``checked``, or without if they are refused."""
        if self._compared is not False:
            try:
                return operation(**parameters, **checked)
            except ClientError as error:
                answer = error.response
                status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status not in _REFUSED or answer.get("Error", {}).get("Code") in _OTHER:
                    raise
        answer = operation(**parameters)
        self._compared = False
        return answer


def encoded(content: memoryview) -> str:
    """Return the CRC32 as S3 writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def _send_pieces(request: Any, **_: Any) -> None:
    """Send content in memory as it is: of a file, urllib3 reads and copies 16 KiB at a time."""
    if hasattr(request.body, "pieces"):
        request.body = request.body.pieces()

"""Every refusal: the exception that is raised, and how it is answered.

Rooms above raise a ``Refusal``, storages raise ``StorageUnavailable``; ``answered()`` makes the
response of it, wherever Kinto calls the plugin: a view, a context factory, a subscriber.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kinto.core.errors import ERRORS, http_error
from kinto.core.storage.exceptions import IntegrityError
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPClientError,
    HTTPConflict,
    HTTPException,
    HTTPForbidden,
    HTTPGone,
    HTTPInsufficientStorage,
    HTTPLocked,
    HTTPMethodNotAllowed,
    HTTPNotFound,
    HTTPPreconditionFailed,
    HTTPRequestEntityTooLarge,
    HTTPRequestRangeNotSatisfiable,
    HTTPServiceUnavailable,
    HTTPUnsupportedMediaType,
)
from pyramid.threadlocal import get_current_registry

from kinto_attachment.metrics import REFUSALS
from kinto_attachment.storage import FileTooLargeForStorage, StorageUnavailable

logger = logging.getLogger(__name__)


class HTTPChecksumMismatch(HTTPClientError):
    """The status that tus adds to HTTP's. https://tus.io/protocols/resumable-upload#checksum"""

    code = 460
    title = "Checksum Mismatch"


class HTTPLinkForbidden(HTTPClientError):
    """A 403 that Kinto makes no 401 of for anonymous users: credentials would not help."""

    code = 403
    title = "Forbidden"


class Refusal(Exception):
    """Why a request is refused; each subclass is a row of the table.

    ``sentence`` has placeholders for the keyword arguments of the exception, ``headers`` names the
    one that is a header of the answer. Without a sentence, Kinto's own views find the words: they
    know the user and the route.
    """

    status: type[HTTPException] = HTTPBadRequest
    errno = ERRORS.INVALID_PARAMETERS
    sentence: str | None = "{reason}"
    headers: Mapping[str, str] = {}
    title: str | None = None
    """The body's ``error``; ``None`` is that of the status."""
    details: Any = None

    def __init__(self, reason: str = "", **values: Any) -> None:
        super().__init__((self.sentence or "").format(reason=reason, **values))
        self.values = values

    def answer(self) -> HTTPException:
        """Make the response, with Kinto's error body.

        https://docs.kinto-storage.org/en/stable/api/1.x/errors.html
        """
        if self.sentence is None:
            return self.status()
        message = str(self) or None
        answer = http_error(
            self.status(), self.errno, None, self.title, message, None, self.details
        )
        answer.headers.update({name: str(self.values[of]) for name, of in self.headers.items()})
        return answer


# What any request may be refused with.


class Forbidden(Refusal):
    """The user may not. Kinto makes a 401 of it for anonymous ones."""

    status, sentence = HTTPForbidden, None


class MethodNotAllowed(Refusal):
    """The resource has no such method, or the server is read-only."""

    status, sentence = HTTPMethodNotAllowed, None


class UnknownFile(Refusal):
    """The plugin has no file of that name."""

    status, sentence = HTTPNotFound, None


class UnknownCollection(Refusal):
    """There is no such bucket or collection. Kinto's own 404 has no message either."""

    status, errno = HTTPNotFound, ERRORS.MISSING_RESOURCE

    def __init__(self, collection_id: str) -> None:
        super().__init__()
        self.details = {"id": collection_id, "resource_name": "collection"}


class UnknownRecord(Refusal):
    """There is no such record."""

    status, errno = HTTPNotFound, ERRORS.INVALID_RESOURCE_ID

    def __init__(self, record_id: str) -> None:
        super().__init__()
        self.details = {"id": record_id, "resource_name": "record"}


class InvalidParameter(Refusal):
    """A parameter is invalid: ``name`` in ``location`` (path, header or body)."""

    title = "Invalid parameters"

    def __init__(self, location: str, name: str | None, description: str) -> None:
        where = location if name is None else f"{name} in {location}"
        is_named = name is not None and name in description
        super().__init__(description if is_named else f"{where}: {description}")
        self.details = [{"location": location, "name": name, "description": description}]


class PreconditionFailed(Refusal):
    """``If-Match`` or ``If-None-Match`` does not hold for the ``record`` as it is."""

    status, errno = HTTPPreconditionFailed, ERRORS.MODIFIED_MEANWHILE
    sentence = "Resource was modified meanwhile"

    def __init__(self, record: dict[str, Any] | None) -> None:
        super().__init__()
        self._record = record
        self.details = {"existing": record} if record else None

    def answer(self) -> HTTPException:
        answer = super().answer()
        if self._record is not None:
            answer.last_modified = self._record["last_modified"] / 1000
            answer.headers["ETag"] = f'"{self._record["last_modified"]}"'
        return answer


# What a file is read with.


class NoAttachment(Refusal):
    """The record has no attachment, or one that is plain data."""

    status, errno = HTTPNotFound, ERRORS.MISSING_RESOURCE
    sentence = "The record has no attachment."


class FileInBatch(Refusal):
    """A batch shows bodies as JSON, and keeps them in memory."""

    sentence = "Files cannot be part of a batch: send a request of its own."


class InvalidLink(Refusal):
    """The link is wrong, has expired, or its file is gone. The answer does not say which."""

    status, errno = HTTPLinkForbidden, ERRORS.FORBIDDEN
    sentence = "This link is not valid, or not any more."


class FileModified(Refusal):
    """``If-Match`` or ``If-Unmodified-Since`` does not hold for the file."""

    status, errno = HTTPPreconditionFailed, ERRORS.MODIFIED_MEANWHILE
    sentence = "The file was modified meanwhile"


class RangeNotSatisfiable(Refusal):
    """The file has no byte in the range (RFC 9110, section 15.5.17)."""

    status = HTTPRequestRangeNotSatisfiable
    sentence = "Range is beyond the end of the file, which has {size} bytes."
    headers = {"Content-Range": "content_range"}

    def __init__(self, size: int) -> None:
        super().__init__(size=size, content_range=f"bytes */{size}")


# The body and its parts.


class MalformedBody(Refusal):
    """The body cannot be read."""


class ConnectionLost(MalformedBody):
    """The client went away before the end of the body."""

    sentence = "body: the connection was lost."


class MalformedForm(MalformedBody):
    """The body is not the form that it should be."""


class UnexpectedPart(Refusal):
    """The form is well-formed, but one of its parts is missing, unknown, or sent twice."""

    errno = ERRORS.INVALID_POSTED_DATA


class InvalidField(Refusal):
    """``data`` or ``permissions`` cannot be stored in a record."""

    errno = ERRORS.INVALID_POSTED_DATA


class FieldTooLarge(Refusal):
    """``data`` or ``permissions`` is too large to come with a file."""

    status, errno = HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE
    sentence = (
        "body: {name} is larger than {limit} bytes: send the rest with a PATCH of the record."
    )


# The file, and the record that shows it.


class ExtensionNotAllowed(Refusal):
    """The setting ``extensions`` does not allow the file."""

    errno = ERRORS.INVALID_POSTED_DATA
    sentence = "body: File extension is not allowed."


class FolderTooLong(Refusal):
    """A folder of the stored name would be longer than file systems allow."""

    sentence = "The ids of bucket and collection are too long for a folder of {limit} bytes."


class FileTooLarge(Refusal):
    """The file is larger than ``max_size_bytes``."""

    status, errno = HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE
    sentence = "The attachment is larger than {limit} bytes."


class StorageTooSmall(Refusal):
    """The file is larger than the file storage can ever take."""

    status, errno = HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE
    sentence = "The attachment is larger than the file storage can hold."


class QuotaExceeded(Refusal):
    """The files of the site, of a bucket or of a collection would exceed ``quota_bytes`` or
    ``quota_files``.

    Answered as by the quotas of earlier versions of Kinto, whose clients know this ``errno``.
    """

    status, errno = HTTPInsufficientStorage, ERRORS.FORBIDDEN
    sentence = "The attachments of {where} would exceed the quota of {limit}: delete some first."


class MetadataModified(Refusal):
    """A record shows something else in the place of the file that it holds."""

    errno = ERRORS.INVALID_POSTED_DATA
    sentence = "Attachment metadata cannot be modified."


class FileDeleted(Refusal):
    """A record shows a file that was deleted since its metadata was read."""

    status, errno = HTTPConflict, ERRORS.CONSTRAINT_VIOLATED
    sentence = "The attached file was deleted meanwhile: read the record again."


class NameTaken(Refusal):
    """A file has, or had, the name that the storage gave to a new one."""

    status, errno = HTTPConflict, ERRORS.CONSTRAINT_VIOLATED
    sentence = "Another file has got the same name meanwhile, please retry."


class StorageFailed(Refusal):
    """The file storage cannot do its work now."""

    status, errno = HTTPServiceUnavailable, ERRORS.BACKEND
    sentence = "The file storage is not available, please retry later."


# Resumable uploads: https://tus.io/protocols/resumable-upload


class InvalidHeader(Refusal):
    """A header of tus cannot be understood, or contradicts what was said before."""


class InBatch(Refusal):
    """Requests of a batch share a transaction, which a resumable upload ends."""

    sentence = "Resumable uploads cannot be part of a batch."


class OperatorsOnly(Refusal):
    """Web servers restrict these by their path, which does not show in a batch."""

    sentence = "The heartbeat and metrics cannot be part of a batch."


class UnsupportedVersion(Refusal):
    """The client wants another version of tus."""

    status, errno = HTTPPreconditionFailed, ERRORS.VERSION_NOT_AVAILABLE
    sentence = "Tus-Resumable should be {version}"
    headers = {"Tus-Version": "version"}


class UnsupportedMediaType(Refusal):
    """The body is of another media type."""

    status = HTTPUnsupportedMediaType
    sentence = "Content-Type should be {expected}"


class UnsupportedEncoding(Refusal):
    """The body is compressed, and would be stored so (RFC 9110, section 15.5.16)."""

    status = HTTPUnsupportedMediaType
    sentence = "Content-Encoding is not supported: send the bytes of the file as they are"
    headers = {"Accept-Encoding": "accepted"}

    def __init__(self) -> None:
        super().__init__(accepted="identity")


class UnknownUpload(Refusal):
    """There is no such upload, or it was terminated."""

    status, errno = HTTPNotFound, ERRORS.MISSING_RESOURCE
    sentence = "There is no such upload."


class ExpiredUpload(Refusal):
    """The upload has expired, or the storage has lost a part of it."""

    status, errno = HTTPGone, ERRORS.MISSING_RESOURCE
    sentence = "The upload has expired: begin a new one."


class OffsetMismatch(Refusal):
    """The upload goes on at another offset than the client believes."""

    status, errno = HTTPConflict, ERRORS.CONSTRAINT_VIOLATED
    sentence = "The upload goes on at {offset}."
    headers = {"Upload-Offset": "offset"}


class UploadLocked(Refusal):
    """Another request has the lease of the upload, for up to so many ``seconds``."""

    status, errno = HTTPLocked, ERRORS.CONSTRAINT_VIOLATED
    sentence = "Another request is writing to this upload, please retry later."
    headers = {"Retry-After": "seconds"}


class BodyTooLong(Refusal):
    """The client sends more than ``Upload-Length`` announced."""

    status, errno = HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE
    sentence = "The body is longer than the upload."


class ChecksumMismatch(Refusal):
    """The body of a request does not hash to ``Upload-Checksum``."""

    status, errno = HTTPChecksumMismatch, ERRORS.INVALID_POSTED_DATA
    sentence = "The body is not what Upload-Checksum says."


class FileMismatch(Refusal):
    """The whole file does not hash to the ``sha256`` of ``Upload-Metadata``."""

    status, errno = HTTPChecksumMismatch, ERRORS.INVALID_POSTED_DATA
    sentence = "The file is not what sha256 says."


@contextmanager
def answered() -> Iterator[None]:
    """Raise the response to a refusal in its place. Also a decorator: ``@answered()``."""
    try:
        yield
    except Refusal as refusal:
        _count(type(refusal))
        raise refusal.answer() from refusal
    except FileTooLargeForStorage as error:
        _count(StorageTooSmall)
        logger.warning("A file is too large for the storage: %s", error)
        raise StorageTooSmall().answer() from error
    except StorageUnavailable as error:
        _count(StorageFailed)
        logger.exception("A file could not be stored or read.")
        raise StorageFailed().answer() from error


def reasons(refusal: type[Refusal] = Refusal) -> Iterator[str]:
    """Yield the names of all kinds of refusals in metrics, like ``file_too_large``."""
    for kind in refusal.__subclasses__():
        yield _reason(kind)
        yield from reasons(kind)


def _reason(refusal: type[Refusal]) -> str:
    return re.sub(r"\B([A-Z])", r"_\1", refusal.__name__).lower()


def _count(refusal: type[Refusal]) -> None:
    # Whoever calls the plugin is not known here, and Kinto makes an answer of its own of some.
    metrics = getattr(get_current_registry(), "attachment_metrics", None)
    if metrics is not None:
        metrics.count(REFUSALS, value=_reason(refusal))


def status_of(error: BaseException) -> int:
    """The HTTP status that ``error`` is answered with."""
    if isinstance(error, Refusal):
        return int(error.status.code)
    if isinstance(error, HTTPException):
        return int(error.status_code)
    if isinstance(error, IntegrityError):
        return int(HTTPConflict.code)
    return int(HTTPServiceUnavailable.code)

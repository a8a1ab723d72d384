"""What is answered where an upload over several requests is refused: as for a plain one, or as tus
has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kinto.core.errors import ERRORS
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPClientError,
    HTTPConflict,
    HTTPGone,
    HTTPLocked,
    HTTPNotFound,
    HTTPRequestEntityTooLarge,
)

from kinto_attachment.errors import refusals, refused
from kinto_attachment.tus.headers import InvalidHeader
from kinto_attachment.tus.lease import UploadBusy, UploadUnknown
from kinto_attachment.tus.receive import ChecksumMismatch, TooLong
from kinto_attachment.tus.uploads import FileMismatch, LengthRefused, OffsetMismatch, UploadGone


class HTTPChecksumMismatch(HTTPClientError):
    """A status that tus has defined."""

    code = 460
    title = "Checksum Mismatch"


@contextmanager
def tus_refusals() -> Iterator[None]:
    """Answer what is wrong with an upload."""
    try:
        with refusals():
            yield
    except (InvalidHeader, LengthRefused) as error:
        raise refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, error) from None
    except UploadUnknown:
        message = "There is no such upload."
        raise refused(HTTPNotFound, ERRORS.MISSING_RESOURCE, message) from None
    except UploadGone:
        message = "The upload has expired: begin a new one."
        raise refused(HTTPGone, ERRORS.MISSING_RESOURCE, message) from None
    except OffsetMismatch as error:
        conflict = refused(HTTPConflict, ERRORS.CONSTRAINT_VIOLATED, error)
        conflict.headers["Upload-Offset"] = str(error.offset)
        raise conflict from None
    except UploadBusy as error:
        busy = refused(HTTPLocked, ERRORS.CONSTRAINT_VIOLATED, error)
        busy.headers["Retry-After"] = str(error.seconds)
        raise busy from None
    except TooLong:
        message = "The body is longer than the upload."
        raise refused(HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE, message) from None
    except (ChecksumMismatch, FileMismatch) as error:
        raise refused(HTTPChecksumMismatch, ERRORS.INVALID_POSTED_DATA, error) from None

"""What is answered where an upload is refused, in Kinto's words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kinto.core.errors import ERRORS, http_error
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPException,
    HTTPRequestEntityTooLarge,
    HTTPServiceUnavailable,
)

from kinto_attachment.attachments.upload import ExtensionNotAllowed, FolderTooLong, TooLarge
from kinto_attachment.http.body import MalformedBody
from kinto_attachment.http.json_object import InvalidField
from kinto_attachment.http.multipart import FieldTooLarge, UnexpectedPart
from kinto_attachment.storage import StorageUnavailable

logger = logging.getLogger(__name__)


@contextmanager
def refusals() -> Iterator[None]:
    """Answer what is wrong with an upload."""
    try:
        yield
    except MalformedBody as error:
        raise refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, error) from error
    except (InvalidField, UnexpectedPart) as error:
        raise refused(HTTPBadRequest, ERRORS.INVALID_POSTED_DATA, error) from None
    except ExtensionNotAllowed:
        message = "body: File extension is not allowed."
        raise refused(HTTPBadRequest, ERRORS.INVALID_POSTED_DATA, message) from None
    except FolderTooLong:
        message = "The ids of bucket and collection are too long for a folder of 255 bytes."
        raise refused(HTTPBadRequest, ERRORS.INVALID_PARAMETERS, message) from None
    except (FieldTooLarge, TooLarge) as error:
        raise refused(HTTPRequestEntityTooLarge, ERRORS.REQUEST_TOO_LARGE, error) from None
    except StorageUnavailable as error:
        logger.exception("A file could not be stored.")
        message = "The file storage is not available, please retry later."
        raise refused(HTTPServiceUnavailable, ERRORS.BACKEND, message) from error


def refused(
    answer: Callable[[], HTTPException], errno: ERRORS, message: str | Exception
) -> HTTPException:
    """An error with Kinto's body."""
    return http_error(answer(), errno=errno, message=str(message))

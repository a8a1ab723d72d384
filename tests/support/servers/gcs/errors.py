"""What Google Cloud Storage refuses, in its own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape

from tests.support.servers.gcs.answers import Answer

_PUBLIC_CODES = {
    400: "InvalidArgument",
    401: "AuthenticationRequired",
    403: "AccessDenied",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "SlowDown",
}


class GcsError(Exception):
    """A refusal: its status, Google's ``reason`` and sentence.

    ``code`` is what the XML API calls it.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code or _PUBLIC_CODES.get(status, "InternalError")
        self.headers = headers or {}

    def as_json(self) -> Answer:
        """The answer of the JSON API."""
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        error = {"code": self.status, "message": self.message, "errors": [detail]}
        return Answer.of_json(self.status, {"error": error}, self.headers)

    def as_text(self) -> Answer:
        """The answer of the JSON API to ``alt=media``: the sentence alone."""
        headers = {"Content-Type": "text/html; charset=UTF-8", **self.headers}
        return Answer(self.status, headers, self.message.encode())

    def as_xml(self) -> Answer:
        """The answer of the XML API."""
        body = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        )
        headers = {"Content-Type": "application/xml; charset=UTF-8", **self.headers}
        return Answer(self.status, headers, body.encode())


def invalid(message: str, reason: str = "invalid") -> GcsError:
    return GcsError(400, reason, message)


def missing_bucket() -> GcsError:
    return GcsError(404, "notFound", "The specified bucket does not exist.", code="NoSuchBucket")


def missing_object(bucket: str, name: str) -> GcsError:
    return GcsError(404, "notFound", f"No such object: {bucket}/{name}", code="NoSuchKey")


def not_found() -> GcsError:
    return GcsError(404, "notFound", "Not Found")


def unauthorized() -> GcsError:
    return GcsError(
        401,
        "authError",
        "Invalid Credentials",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'},
    )


def anonymous(permission: str) -> GcsError:
    return GcsError(
        401,
        "required",
        f"Anonymous caller does not have {permission} access to the Google Cloud Storage object. "
        f"Permission '{permission}' denied on resource (or it may not exist).",
    )


def forbidden(caller: str, permission: str, what: str = "object") -> GcsError:
    return GcsError(
        403,
        "forbidden",
        f"{caller} does not have {permission} access to the Google Cloud Storage {what}. "
        f"Permission '{permission}' denied on resource (or it may not exist).",
    )


def not_modified() -> GcsError:
    return GcsError(304, "notModified", "Not Modified")


def precondition_failed() -> GcsError:
    return GcsError(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
    )


def rate_limited(bucket: str, name: str) -> GcsError:
    return GcsError(
        429,
        "rateLimitExceeded",
        f"The object {bucket}/{name} exceeded the rate limit for object mutation operations "
        "(create, update, and delete). Please reduce your request rate. "
        "See https://cloud.google.com/storage/docs/gcs429.",
    )


def unavailable() -> GcsError:
    return GcsError(503, "backendError", "We encountered an internal error. Please try again.")


def range_not_satisfiable(size: int) -> GcsError:
    return GcsError(
        416,
        "requestedRangeNotSatisfiable",
        "The requested range cannot be satisfied.",
        headers={"Content-Range": f"bytes */{size}"},
    )


def load_json(body: bytes) -> dict:
    """The JSON object in a body; an empty one is ``{}``. Raises ``GcsError``."""
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        raise invalid("Parse Error", "parseError") from None
    if not isinstance(value, dict):
        raise invalid("Parse Error", "parseError")
    return value

"""The description of resumable uploads in Kinto's ``/__api__`` (OpenAPI 2.0)."""

from __future__ import annotations

from typing import Any

import colander
from kinto.core.cornice_swagger.converters.schema import TypeConverter
from kinto.core.openapi import OpenAPI
from kinto.core.resource.schema import ResponseHeaderSchema
from pyramid.events import BeforeRender

from kinto_attachment.http.openapi import ERRORS, QUOTA, described_error
from kinto_attachment.tus import headers as tus


def describe_creation(service: Any) -> None:
    """Add tus's headers and responses to the description of the ``attachment`` endpoint."""
    # OpenAPI 2.0 has one description for a path and a method, whatever the body is.
    for method, _, arguments in service.definitions:
        if method == "POST":
            begins = "Begins an upload over several requests. The body is then none, or the "
            arguments["schema"] = _with_headers(
                arguments["schema"],
                _header(
                    tus.TUS_RESUMABLE,
                    f"{begins}file's first bytes, as {tus.CONTENT_TYPE}.",
                    validator=colander.OneOf([tus.VERSION]),
                ),
                *_CREATION_HEADERS,
            )
            arguments["response_schemas"] = {
                **arguments["response_schemas"],
                "201": _created(arguments["response_schemas"]["201"]),
                "415": _UNSUPPORTED,
                "460": _MISMATCH,
            }


def describe_uploads(config: Any, service: Any) -> None:
    """Describe the parameters and responses of each method of the uploads' endpoint.

    Call it once ``service`` is registered.
    """
    OpenAPI.custom_type_converters.update({_Binary: _BinaryConverter})
    for method, _, arguments in service.definitions:
        arguments.update(_DESCRIPTIONS.get(method, {}))

    def add_head(event: Any) -> None:
        request = event.get("request")
        route = getattr(request, "matched_route", None)
        if route is not None and route.name == "openapi":
            with_head = _WithHead([service], request).generate()
            event.rendering_val["paths"].update(with_head["paths"])

    config.add_subscriber(add_head, BeforeRender)


class _WithHead(OpenAPI):
    """Describes HEAD, too. Kinto leaves it out: its own are those of a GET."""

    ignore_methods = ("OPTIONS",)


class _Binary(colander.String):
    """A body that is not JSON."""


class _BinaryConverter(TypeConverter):
    type = "string"

    def convert_type(self, schema_node: Any) -> dict[str, Any]:
        converted: dict[str, Any] = super().convert_type(schema_node)
        return {**converted, "format": "binary"}


class Content(colander.SchemaNode):
    """The body. The parameter gets the name of the class."""

    schema_type = _Binary


def _header(name: str, description: str, **more: Any) -> colander.SchemaNode:
    arguments = {"missing": colander.drop, **more}
    return colander.SchemaNode(colander.String(), name=name, description=description, **arguments)


def _number(name: str, description: str, **more: Any) -> colander.SchemaNode:
    arguments = {"missing": colander.drop, "validator": colander.Range(min=0), **more}
    return colander.SchemaNode(colander.Integer(), name=name, description=description, **arguments)


_VERSION = _header(
    tus.TUS_RESUMABLE,
    "The version of the protocol, https://tus.io/protocols/resumable-upload",
    validator=colander.OneOf([tus.VERSION]),
    missing=colander.required,
)
_CHECKSUM = _header(
    tus.UPLOAD_CHECKSUM,
    f"What the body hashes to: {' or '.join(tus.CHECKSUMS)}, a blank, and the digest in base64.",
)
_LENGTH = _number(tus.UPLOAD_LENGTH, "The size of the file in bytes.")
_CREATION_HEADERS = (
    _LENGTH,
    _header(
        tus.UPLOAD_DEFER_LENGTH,
        "In the place of `Upload-Length`, if that will be told later.",
        validator=colander.OneOf(["1"]),
    ),
    _header(
        tus.UPLOAD_METADATA,
        "`filename`, `filetype`, `data`, `permissions` and `sha256` (of the file, in hexadecimal "
        "digits), each with its value in base64, between commas.",
    ),
    _CHECKSUM,
)
_STARTS = _number(
    tus.UPLOAD_OFFSET, "Where in the file the body begins.", missing=colander.required
)
_MAY_START = _number(tus.UPLOAD_OFFSET, "Where in the file the body of a PATCH begins.")
_LENGTH_NOW = _number(tus.UPLOAD_LENGTH, "The size of the file in bytes, if not told before.")
_OVERRIDE = _header(
    "X-HTTP-Method-Override",
    "The method that is meant, where a proxy does not let it pass.",
    validator=colander.OneOf(["PATCH", "DELETE", "HEAD"]),
    missing=colander.required,
)
_ANSWERED = _header(tus.TUS_RESUMABLE, "The version of the protocol.")
_SPOKEN = _header(tus.TUS_VERSION, "The version that the server speaks.")
_RETRY = _header("Retry-After", "In so many seconds.")
_OFFSET = _number(tus.UPLOAD_OFFSET, "How many bytes there are.")
_EXPIRES = _header(tus.UPLOAD_EXPIRES, "When the upload is given up, unless it goes on.")
_RECORD = _header("Content-Location", "The URL of the record, once the file is attached to it.")
_CREATED = (
    _ANSWERED,
    _header("Location", "The URL of the record; or of the upload that has begun."),
    _OFFSET,
    _EXPIRES,
    _RECORD,
)
_TOLD = (
    _OFFSET,
    _number(tus.UPLOAD_LENGTH, "The size of the file in bytes, if it is known."),
    _header(tus.UPLOAD_DEFER_LENGTH, "`1` if it is not."),
    _header(tus.UPLOAD_METADATA, "As it was sent."),
    _EXPIRES,
    _RECORD,
)
_WENT_ON = (
    _OFFSET,
    _EXPIRES,
    _RECORD,
    _header("Location", "The same."),
    *ResponseHeaderSchema().children,
)


def _request(*headers: colander.SchemaNode, body: bool = False) -> colander.MappingSchema:
    parts = [_headers(_VERSION, *headers)]
    if body:
        description = "The bytes that follow."
        parts.append(Content(name="body", description=description, missing=colander.drop))
    return colander.MappingSchema(children=parts)


def _answer(description: str, *headers: colander.SchemaNode) -> colander.MappingSchema:
    return colander.MappingSchema(
        description=description, children=[_headers(_ANSWERED, *headers)]
    )


def _error(description: str, *headers: colander.SchemaNode) -> colander.MappingSchema:
    error = described_error(description)
    error.add(_headers(_ANSWERED, *headers))
    return error


def _headers(*headers: colander.SchemaNode) -> colander.SchemaNode:
    named = [header.clone() for header in headers]
    return colander.SchemaNode(colander.Mapping(), name="header", children=named)


def _with_headers(schema: Any, *headers: colander.SchemaNode) -> colander.MappingSchema:
    """``schema`` with more headers."""
    extended = schema().clone()
    for header in headers:
        extended["header"].add(header.clone())
    return extended


def _created(answer: colander.MappingSchema) -> colander.MappingSchema:
    extended = answer.clone()
    extended.description += " Or an upload has begun: then there is no body."
    for header in _CREATED:
        extended["header"][header.name] = header.clone()
    return extended


_UNSUPPORTED = described_error(f"The body is not {tus.CONTENT_TYPE}, or is compressed.")
_MISMATCH = described_error("The body, or the file, does not hash to what was announced.")
_OTHER_VERSION = "The server speaks another version"
_OF_ANY = {
    **{status: ERRORS[status] for status in ("400", "401", "403")},
    "404": described_error("There is no such bucket, collection, or upload of this user's."),
    "412": _error(f"{_OTHER_VERSION}.", _SPOKEN),
    "503": _error(ERRORS["503"].description, _RETRY),
}
_GONE = {"410": described_error("The upload has expired, begin a new one.")}
_OF_WRITES = {"405": ERRORS["405"], **_OF_ANY}
_OF_PATCH = {
    **_OF_WRITES,
    "409": _error("The upload goes on elsewhere; or others write the record.", _OFFSET),
    **_GONE,
    "412": _error(
        f"{_OTHER_VERSION}; or the record is not as the request that began the upload wants it.",
        _SPOKEN,
    ),
    "413": described_error("The body is longer than the upload, or the file is too large."),
    "415": _UNSUPPORTED,
    "423": _error("Another request writes to the upload.", _RETRY),
    "460": _MISMATCH,
    **QUOTA,
}
_HEAD = {
    "200": _answer("How far the upload is.", *_TOLD),
    # An answer to HEAD has no body.
    **{status: _answer(each.description) for status, each in {**_OF_ANY, **_GONE}.items()},
}
_PATCH = {
    "204": _answer("The bytes are stored; the file is attached if it is whole.", *_WENT_ON),
    **_OF_PATCH,
}
_DELETE = {"204": _answer("The upload is ended."), **_OF_WRITES}
_POST = {**_HEAD, **_PATCH, "405": described_error("No such method; or the server is read-only.")}
_BODY = {"content_type": tus.CONTENT_TYPE}
_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "HEAD": {"schema": _request(), "response_schemas": _HEAD},
    "PATCH": {
        "schema": _request(_STARTS, _LENGTH_NOW, _CHECKSUM, body=True),
        "response_schemas": _PATCH,
        **_BODY,
    },
    "DELETE": {"schema": _request(), "response_schemas": _DELETE},
    "POST": {
        "schema": _request(_OVERRIDE, _MAY_START, _LENGTH_NOW, _CHECKSUM, body=True),
        "response_schemas": _POST,
        **_BODY,
    },
}

"""The description of the ``attachment`` endpoint, and of files by their name, in Kinto's
``/__api__`` (OpenAPI 2.0).

Kinto derives it from colander schemas, and has none for a form or a file. So a form's parts and a
file are types of their own, with converters that make ``formData`` parameters of the parts.
https://spec.openapis.org/oas/v2.0.html#parameter-object
"""

from __future__ import annotations

import re
from typing import Any

import colander
from kinto.core.cornice_swagger.converters.schema import TypeConverter
from kinto.core.openapi import OpenAPI
from kinto.core.resource.schema import (
    ErrorResponseSchema,
    HeaderSchema,
    ResponseHeaderSchema,
)

from kinto_attachment.http.multipart import FIELDS, FILE, MAX_FIELD_BYTES


def describe(service: Any) -> None:
    """Describe the parameters and responses of each method of ``service``.

    Call it once the service is registered: before, the Content-Type would become a predicate of
    the view, and Kinto would answer any other one with a 415.
    """
    converters = {_File: _FileConverter, _Text: _TextConverter, _Bytes: _BytesConverter}
    OpenAPI.custom_type_converters.update(converters)
    for method, _, arguments in service.definitions:
        arguments.update(_DESCRIPTIONS.get(method, {}))


def describe_by_name(service: Any) -> None:
    """Describe files by their name; see ``describe()``."""
    describe(service)
    # Without the regular expression of its route, which OpenAPI does not know.
    service.path = re.sub(r":[^}]*", "", service.path)
    for _, _, arguments in service.definitions:
        if "response_schemas" in arguments:
            arguments["response_schemas"] = {**arguments["response_schemas"], **_REFUSED_BY_NAME}


def describe_link(service: Any) -> None:
    """Describe the endpoint of links; see ``describe()``."""
    for _, _, arguments in service.definitions:
        arguments.update(_LINK)


class _File(colander.String):
    """A part with a file."""


class _Text(colander.String):
    """A part with a small field."""


class _PartConverter(TypeConverter):
    def convert_type(self, schema_node: Any) -> dict[str, Any]:
        converted: dict[str, Any] = super().convert_type(schema_node)
        # Kinto makes a header of it.
        return {**converted, "in": "formData"}


class _FileConverter(_PartConverter):
    type = "file"


class _TextConverter(_PartConverter):
    type = "string"


class _Bytes(colander.String):
    """A body that is a file: https://spec.openapis.org/oas/v2.0.html#response-object"""


class _BytesConverter(TypeConverter):
    type = "file"


class Content(colander.SchemaNode):
    """The bytes of a file, under the name of the class."""

    schema_type = _Bytes


def _parts() -> colander.MappingSchema:
    file = colander.SchemaNode(_File(), name=FILE, description="The file, with its filename.")
    texts = [
        colander.SchemaNode(
            _Text(),
            name=name,
            missing=colander.drop,
            description=f"The record's {name}: a JSON object as text, of up to "
            f"{MAX_FIELD_BYTES} bytes.",
        )
        for name in FIELDS
    ]
    return colander.MappingSchema(children=[file, *texts])


class _DeleteSchema(colander.MappingSchema):
    header = HeaderSchema()


class _PostSchema(colander.MappingSchema):
    header = HeaderSchema()
    # Kinto accepts both names for the place: the form's parts go where headers go.
    headers = _parts()


class AttachmentSchema(colander.MappingSchema):
    filename = colander.SchemaNode(colander.String(), description="As sent, without folders.")
    hash = colander.SchemaNode(colander.String(), description="SHA-256, in hexadecimal digits.")
    location = colander.SchemaNode(colander.String(), description="Where to download it from.")
    mimetype = colander.SchemaNode(colander.String(), description="Its media type.")
    size = colander.SchemaNode(colander.Integer(), description="In bytes.")


class _AttachedHeaders(ResponseHeaderSchema):
    location = colander.SchemaNode(
        colander.String(), name="Location", description="The URL of the record."
    )


class _Attached(colander.MappingSchema):
    header = _AttachedHeaders()
    body = AttachmentSchema()


class _Detached(colander.MappingSchema):
    header = ResponseHeaderSchema()


def _optional(name: str, description: str, typ: Any = colander.String) -> colander.SchemaNode:
    missing = colander.drop
    return colander.SchemaNode(typ(), name=name, missing=missing, description=description)


class _GetSchema(colander.MappingSchema):
    header = colander.MappingSchema(
        children=[
            _optional("Range", "The bytes to send: one range. Others get the whole file."),
            _optional("If-Range", "The version that `Range` is for: `ETag` or `Last-Modified`."),
            _optional("If-Match", "Versions of which the file should be one: `ETag`, or `*`."),
            _optional("If-None-Match", "Versions that the client has: `ETag`, or `*`."),
            _optional("If-Modified-Since", "The date of the version that the client has."),
            _optional("If-Unmodified-Since", "The date after which the file should not change."),
        ]
    )
    querystring = colander.MappingSchema(
        children=[_optional("download", "With any value: browsers save the file.")]
    )


_VALIDATORS = (
    _optional("ETag", "The SHA-256 digest of the file, in hexadecimal digits and quotes."),
    _optional("Last-Modified", "When the file was stored."),
    _optional("Repr-Digest", "The SHA-256 digest of the file, in base64: RFC 9530."),
    _optional("Accept-Ranges", "`bytes`."),
    _optional("Cache-Control", "How long the file may be cached."),
)
_CONTENT = (
    _optional("Content-Length", "In bytes.", colander.Integer),
    _optional("Content-Disposition", "Whether browsers show or save the file, and as what."),
)
_CONTENT_RANGE = _optional("Content-Range", "Which bytes of how many.")


def _file(description: str, *headers: colander.SchemaNode) -> colander.MappingSchema:
    response = _response(description, *_VALIDATORS, *_CONTENT, *headers)
    response.add(Content(name="body"))
    return response


def _response(description: str, *headers: colander.SchemaNode) -> colander.MappingSchema:
    named = [header.clone() for header in headers]
    header = colander.SchemaNode(colander.Mapping(), name="header", children=named)
    return colander.MappingSchema(description=description, children=[header])


def described_error(description: str) -> ErrorResponseSchema:
    """Return the schema of a response with Kinto's error body."""
    return ErrorResponseSchema(description=description)


ERRORS = {
    "400": described_error("The request is invalid."),
    "401": described_error("The request is missing authentication headers."),
    "403": described_error("The user is not allowed to write the record."),
    "404": described_error("There is no such bucket, collection or record."),
    "405": described_error("The server is read-only."),
    "409": described_error("The record is written by others meanwhile."),
    "412": described_error("The record is not as `If-Match` or `If-None-Match` wants it."),
    "503": described_error("The storage is not available, retry later."),
}
QUOTA = {"507": described_error("A quota of the site, bucket or collection is exceeded.")}
_REFUSED_BY_NAME = {
    "401": described_error("The user is not known, and the file is private or does not exist."),
    "403": described_error("The link is not valid, or not any more."),
    "404": described_error("There is no such file, or the user is not allowed to read it."),
}
_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    # And HEAD, which Kinto leaves out.
    "GET": {
        "schema": _GetSchema,
        # Otherwise Kinto says that it produces JSON.
        "renderer": "",
        "response_schemas": {
            "200": _file("The file."),
            "206": _file("The part of the file that `Range` asks for.", _CONTENT_RANGE),
            "302": _response(
                "The file is at the storage.",
                _optional("Location", "A URL that is valid for some time."),
            ),
            "304": _response("The client has the file already.", *_VALIDATORS),
            **{status: ERRORS[status] for status in ("400", "401", "503")},
            "403": described_error("The user is not allowed to read the record."),
            "404": described_error("There is no such file."),
            "412": described_error("The file is not as the client expects it."),
            "416": described_error("The file has no byte in the range."),
        },
    },
    "POST": {
        "schema": _PostSchema,
        "content_type": "multipart/form-data",
        "response_schemas": {
            "200": _Attached(description="The file is attached to the record."),
            "201": _Attached(description="The record is created, with the file."),
            "413": described_error("The file, or a field, is too large."),
            **ERRORS,
            **QUOTA,
        },
    },
    "DELETE": {
        "schema": _DeleteSchema,
        "response_schemas": {
            "204": _Detached(description="The record has no attachment any more."),
            **ERRORS,
        },
    },
}


class _LinkOptions(colander.MappingSchema):
    expires_in = colander.SchemaNode(
        colander.Integer(),
        missing=colander.drop,
        description="For how many seconds: at most, and by default, as long as the settings say.",
    )
    download = colander.SchemaNode(
        colander.Boolean(), missing=colander.drop, description="Whether browsers save the file."
    )


class _LinkSchema(colander.MappingSchema):
    body = _LinkOptions(missing=colander.drop)


class LinkSchema(colander.MappingSchema):
    url = colander.SchemaNode(colander.String(), description="The link.")
    expires = colander.SchemaNode(
        colander.Integer(), description="When it ceases to be valid, in seconds since 1970."
    )


class _Linked(colander.MappingSchema):
    body = LinkSchema()


_LINK = {
    "schema": _LinkSchema,
    "response_schemas": {
        "201": _Linked(description="The link is made."),
        **{status: ERRORS[status] for status in ("400", "401", "405", "503")},
        "403": described_error("The user is not allowed to read the record."),
        "404": described_error("There is no such record, or it has no attachment."),
    },
}

"""The description of the ``attachment`` endpoint in Kinto's ``/__api__`` (OpenAPI 2.0).

Kinto derives it from colander schemas, and has none for a form. So the parts of the form are types
of their own, with converters that make ``formData`` parameters of them.
https://spec.openapis.org/oas/v2.0.html#parameter-object
"""

from __future__ import annotations

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
    OpenAPI.custom_type_converters.update({_File: _FileConverter, _Text: _TextConverter})
    for method, _, arguments in service.definitions:
        arguments.update(_DESCRIPTIONS.get(method, {}))


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
_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "POST": {
        "schema": _PostSchema,
        "content_type": "multipart/form-data",
        "response_schemas": {
            "200": _Attached(description="The file is attached to the record."),
            "201": _Attached(description="The record is created, with the file."),
            "413": described_error("The file, or a field, is too large."),
            **ERRORS,
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

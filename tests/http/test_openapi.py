"""What Kinto's ``/__api__`` says of the endpoint."""

from __future__ import annotations

from contextlib import suppress

import pytest
from kinto.core.views.openapi import openapi_view

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"


@pytest.fixture
def paths(app):
    """What is said of each path."""
    forget()
    description = app.get("/v1/__api__").json
    forget()
    assert description["swagger"] == "2.0"
    return description["paths"]


def forget():
    # Kinto says the same to the end of the process.
    with suppress(AttributeError):
        del openapi_view.__json__


@pytest.fixture
def described(paths):
    """What is said of the endpoint."""
    return paths[PATH]


def parameters(operation):
    return {
        (parameter["in"], parameter["name"]): (parameter["type"], parameter["required"])
        for parameter in operation["parameters"]
    }


def test_an_upload_is_a_form_with_a_file_and_two_fields(described):
    assert described["post"]["consumes"] == ["multipart/form-data"]
    assert parameters(described["post"]) == {
        ("header", "If-Match"): ("string", False),
        ("header", "If-None-Match"): ("string", False),
        ("formData", "attachment"): ("file", True),
        ("formData", "data"): ("string", False),
        ("formData", "permissions"): ("string", False),
    }


def test_a_removal_has_no_body(described):
    assert "consumes" not in described["delete"]
    assert parameters(described["delete"]) == {
        ("header", "If-Match"): ("string", False),
        ("header", "If-None-Match"): ("string", False),
    }


@pytest.mark.parametrize("status", ["200", "201"])
def test_the_answer_to_an_upload_is_the_attachment(described, status):
    answer = described["post"]["responses"][status]

    types = {name: value["type"] for name, value in answer["schema"]["properties"].items()}
    assert types == {
        "filename": "string",
        "hash": "string",
        "location": "string",
        "mimetype": "string",
        "size": "integer",
    }
    assert sorted(answer["schema"]["required"]) == sorted(types)
    assert sorted(answer["headers"]) == ["Etag", "Last-Modified", "Location"]


def test_every_answer_is_named(described):
    errors = ["400", "401", "403", "404", "405", "409", "412", "503"]

    assert sorted(described["post"]["responses"]) == sorted(["200", "201", "413", *errors])
    assert sorted(described["delete"]["responses"]) == sorted(["204", *errors])


def test_errors_are_described_as_those_of_kinto(paths, described):
    record = paths[PATH.removesuffix("/attachment")]

    for operation in ("post", "delete"):
        responses = described[operation]["responses"]
        for status in responses.keys() - {"200", "201", "204"}:
            assert responses[status]["schema"] == record["get"]["responses"]["400"]["schema"]


def test_a_form_of_another_type_is_not_a_415(record):
    refused = record.post(b"{}", "application/json", 400)

    assert refused.json["message"] == "Content-Type should be multipart/form-data"

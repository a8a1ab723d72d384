"""What Kinto's ``/__api__`` says of the endpoints."""

from __future__ import annotations

from contextlib import suppress

import pytest
from kinto.core.views.openapi import openapi_view

PATH = "/buckets/{bucket_id}/collections/{collection_id}/records/{id}/attachment"
UPLOAD_PATH = f"{PATH}/uploads/{{upload_id}}"


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


@pytest.fixture
def upload(paths):
    """What is said of an upload over several requests."""
    return paths[UPLOAD_PATH]


def parameters(operation):
    return {
        (parameter["in"], parameter["name"]): (
            parameter.get("type") or parameter["schema"]["format"],
            parameter["required"],
        )
        for parameter in operation["parameters"]
    }


def test_an_upload_is_a_form_with_a_file_and_two_fields(described):
    assert described["post"]["consumes"] == ["multipart/form-data"]
    assert parameters(described["post"]) == {
        ("header", "If-Match"): ("string", False),
        ("header", "If-None-Match"): ("string", False),
        ("header", "Tus-Resumable"): ("string", False),
        ("header", "Upload-Length"): ("integer", False),
        ("header", "Upload-Defer-Length"): ("string", False),
        ("header", "Upload-Metadata"): ("string", False),
        ("header", "Upload-Checksum"): ("string", False),
        ("formData", "attachment"): ("file", True),
        ("formData", "data"): ("string", False),
        ("formData", "permissions"): ("string", False),
    }


def test_a_download_may_have_conditions(described):
    assert "consumes" not in described["get"]
    assert parameters(described["get"]) == {
        ("header", "Range"): ("string", False),
        ("header", "If-Range"): ("string", False),
        ("header", "If-Match"): ("string", False),
        ("header", "If-None-Match"): ("string", False),
        ("header", "If-Modified-Since"): ("string", False),
        ("header", "If-Unmodified-Since"): ("string", False),
        ("query", "download"): ("string", False),
    }


def test_the_answer_to_a_download_is_a_file_of_any_type(described):
    operation = described["get"]

    assert "produces" not in operation
    for status in ("200", "206"):
        assert operation["responses"][status]["schema"]["type"] == "file"
        assert operation["responses"][status]["headers"].keys() >= {"ETag", "Content-Length"}
    assert "schema" not in operation["responses"]["304"]
    assert "Content-Range" in operation["responses"]["206"]["headers"]


def test_files_by_their_name_are_described_where_they_are_served(make_app, described):
    base_url = "http://localhost/v1/of/files/"
    app = make_app(attachment={"serve_files": "true", "base_url": base_url})

    forget()
    by_name = app.get("/v1/__api__").json["paths"]["/of/files/{name}"]
    forget()

    assert [each["name"] for each in by_name["parameters"]] == ["name"]
    assert by_name["get"]["parameters"] == described["get"]["parameters"]
    responses = described["get"]["responses"]
    assert by_name["get"]["responses"].keys() == responses.keys()


def test_a_link_may_be_short(paths, described):
    operation = paths[f"{PATH}/link"]["post"]

    body = [each for each in operation["parameters"] if each["in"] == "body"]
    assert [each["required"] for each in body] == [False]
    assert body[0]["schema"]["properties"].keys() == {"expires_in", "download"}
    made = operation["responses"]["201"]["schema"]["properties"]
    assert {name: made[name]["type"] for name in made} == {"url": "string", "expires": "integer"}
    names = ["201", "400", "401", "403", "404", "405", "503"]
    assert sorted(operation["responses"]) == names
    for status in names[1:]:
        assert (
            operation["responses"][status]["schema"]
            == (described["post"]["responses"]["400"]["schema"])
        )


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
    begun = {"Content-Location", "Tus-Resumable", "Upload-Expires", "Upload-Offset"}
    assert answer["headers"].keys() - begun == {"Etag", "Last-Modified", "Location"}
    assert (answer["headers"].keys() >= begun) == (status == "201")


def test_every_answer_is_named(described):
    errors = ["400", "401", "403", "404", "405", "409", "412", "503"]

    assert sorted(described["post"]["responses"]) == sorted(
        ["200", "201", "413", "415", "460", "507", *errors]
    )
    assert sorted(described["delete"]["responses"]) == sorted(["204", *errors])
    assert sorted(described["get"]["responses"]) == sorted(
        ["200", "206", "302", "304", "400", "401", "403", "404", "412", "416", "503"]
    )


def test_an_upload_goes_on_with_a_body_that_is_no_form(upload):
    assert upload["patch"]["consumes"] == ["application/offset+octet-stream"]
    assert parameters(upload["patch"]) == {
        ("header", "Tus-Resumable"): ("string", True),
        ("header", "Upload-Offset"): ("integer", True),
        ("header", "Upload-Length"): ("integer", False),
        ("header", "Upload-Checksum"): ("string", False),
        ("body", "Content"): ("binary", False),
    }


def test_a_client_that_sends_no_other_method_names_the_one_it_means(upload):
    assert parameters(upload["post"]) == {
        **parameters(upload["patch"]),
        ("header", "Upload-Offset"): ("integer", False),
        ("header", "X-HTTP-Method-Override"): ("string", True),
    }


@pytest.mark.parametrize("method", ["head", "delete"])
def test_how_far_it_is_and_its_end_take_no_body(upload, method):
    assert "consumes" not in upload[method]
    assert parameters(upload[method]) == {("header", "Tus-Resumable"): ("string", True)}


def test_every_answer_to_a_request_of_an_upload_is_named(upload):
    errors = ["400", "401", "403", "404", "412", "503"]
    of_patch = ["405", "409", "410", "413", "415", "423", "460", "507", *errors]

    assert sorted(upload["head"]["responses"]) == sorted(["200", "410", *errors])
    assert sorted(upload["patch"]["responses"]) == sorted(["204", *of_patch])
    assert sorted(upload["delete"]["responses"]) == sorted(["204", "405", *errors])
    assert sorted(upload["post"]["responses"]) == sorted(["200", "204", *of_patch])


def test_an_answer_to_a_head_has_headers_and_no_body(upload):
    responses = upload["head"]["responses"]

    assert not any("schema" in response for response in responses.values())
    assert responses["200"]["headers"].keys() == {
        "Content-Location",
        "Tus-Resumable",
        "Upload-Defer-Length",
        "Upload-Expires",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Offset",
    }


@pytest.mark.parametrize(
    ("status", "header"),
    [
        ("204", "Upload-Offset"),
        ("409", "Upload-Offset"),
        ("412", "Tus-Version"),
        ("423", "Retry-After"),
    ],
)
def test_a_client_finds_what_to_do_next_in_headers(upload, status, header):
    assert header in upload["patch"]["responses"][status]["headers"]


def test_other_endpoints_are_described_as_without_us(paths):
    assert not any("head" in paths[path] for path in paths.keys() - {UPLOAD_PATH})


def test_errors_are_described_as_those_of_kinto(paths, described, upload):
    record = paths[PATH.removesuffix("/attachment")]

    for operation in ("get", "post", "delete"):
        responses = described[operation]["responses"]
        for status in responses.keys() - {"200", "201", "204", "206", "302", "304"}:
            assert responses[status]["schema"] == record["get"]["responses"]["400"]["schema"]

    for operation in ("patch", "delete"):
        responses = upload[operation]["responses"]
        for status in responses.keys() - {"204"}:
            assert responses[status]["schema"] == record["get"]["responses"]["400"]["schema"]


def test_a_form_of_another_type_is_not_a_415(record):
    refused = record.post(b"{}", "application/json", 400)

    assert refused.json["message"] == "Content-Type should be multipart/form-data"

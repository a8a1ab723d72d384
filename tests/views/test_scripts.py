"""``extensions`` keeps out what a browser would run, whatever type the client declares."""

from __future__ import annotations

import pytest

from tests.support.tus import begin, metadata

pytestmark = pytest.mark.both_storages


def of_form(record, filename, content_type):
    record.attach(b"<script>alert(1)</script>", filename, content_type)


def of_tus(record, filename, content_type):
    announced = metadata(filename=filename, filetype=content_type)
    begin(record, 1, Upload_Metadata=announced).patch(0, b"<")


@pytest.fixture(params=[of_form, of_tus], ids=["form", "tus"])
def upload(request):
    """Attaches a file to a record, in one request or in several."""
    return request.param


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("filename", "declared", "expected"),
    [
        ("cat.jpg", "text/html", "image/jpeg"),
        ("cat.jpg", "image/svg+xml", "image/jpeg"),
        ("cat.jpg", "application/unknown", "image/jpeg"),
        ("x.pdf", "text/html", "application/pdf"),
        ("x.pdf", "application/xhtml+xml", "application/pdf"),
        ("x.abw", "text/javascript", "application/x-abiword"),
        ("x.thing", "text/html", "application/octet-stream"),
        ("x.mine", "text/html", "application/x-mine"),
        ("x.svg", "text/html", "image/svg+xml"),
        ("x.svg", "image/svg+xml", "image/svg+xml"),
        ("cat.jpg", "image/pjpeg", "image/pjpeg"),
    ],
)
def test_a_type_that_runs_scripts_is_not_believed(
    make_record, upload, filename, declared, expected
):
    record = make_record(
        attachment={
            "extensions": "images+documents+thing mine",
            "mimetypes": ".mine:application/x-mine",
        }
    )

    upload(record, filename, declared)

    assert record.data["attachment"]["mimetype"] == expected


def test_pages_may_be_allowed_by_their_own_extension(make_record, upload):
    record = make_record(attachment={"extensions": "html"})

    upload(record, "page.html", "text/html")

    assert record.data["attachment"]["mimetype"] == "text/html"


def test_where_everything_is_allowed_the_client_is_believed(record, upload):
    upload(record, "page", "text/html")

    assert record.data["attachment"]["mimetype"] == "text/html"


@pytest.mark.parametrize("where", ["s3"])
def test_what_the_storage_serves_is_of_the_same_type(make_record, upload):
    record = make_record(attachment={"extensions": "images"})

    upload(record, "cat.jpg", "text/html")

    (name,) = record.files()
    assert record.stored.head(name)["ContentType"] == "image/jpeg"

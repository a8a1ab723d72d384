"""A base URL that changes: records show locations under the one of their time, and all goes on."""

from __future__ import annotations

import pytest

from tests.support.records import Record

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

FORMER = "https://files.example.org/"
CURRENT = ["http://files.example.org/", "https://cdn.example.org/v2/", "/files/", ""]


@pytest.fixture(params=CURRENT)
def moved(request, record, make_app, stored):
    """The record, which has a file, as a server with another base URL has it."""
    record.attach(b"first", data={"title": "old"})
    app = make_app(attachment={"base_url": request.param})
    return Record(app, stored, record.uri)


@pytest.mark.leaves("locations under a base URL that is not known")
def test_a_record_can_be_changed(moved):
    moved.app.patch_json(moved.path, {"data": {"title": "new"}})
    moved.app.patch_json(moved.path, {"permissions": {"read": ["system.Everyone"]}})
    moved.app.put_json(moved.path, {"data": moved.data})

    assert moved.data["attachment"]["location"].startswith(FORMER)
    assert moved.data["title"] == "new"
    assert len(moved.files()) == 1


def test_a_file_can_be_replaced_and_detached(moved):
    moved.attach(b"second")
    assert len(moved.files()) == 1

    moved.detach()
    assert moved.files() == []


def test_a_file_goes_with_its_record(moved):
    moved.app.delete(moved.path)

    assert moved.files() == []


@pytest.mark.leaves("locations under a base URL that is not known")
def test_a_copy_holds_the_file_too(moved):
    copy = moved.other()
    copy.app.put_json(copy.path, {"data": {"attachment": moved.data["attachment"]}})

    moved.app.delete(moved.path)
    assert len(moved.files()) == 1

    copy.app.patch_json(copy.path, {"data": {"title": "changed"}})
    copy.app.delete(copy.path)
    assert moved.files() == []


@pytest.mark.leaves("locations under a base URL that is not known")
@pytest.mark.parametrize(
    "host", ["https://evil.example/", "http://evil.example@files.example.org/"]
)
def test_another_host_is_refused(moved, host):
    attachment = moved.data["attachment"]
    forged = {**attachment, "location": attachment["location"].replace(FORMER, host)}

    answer = moved.app.patch_json(moved.path, {"data": {"attachment": forged}}, status=400)

    assert answer.json["message"] == "Attachment metadata cannot be modified."
    assert moved.data["attachment"] == attachment


def test_the_former_base_url_may_come_back(moved, make_app, stored):
    moved.app.patch_json(moved.path, {"data": {"title": "new"}})
    back = Record(make_app(), stored, moved.uri)

    back.app.put_json(back.path, {"data": back.data})
    back.attach(b"second")

    assert back.content == b"second"
    assert len(back.files()) == 1


def test_a_known_base_url_is_accepted(moved, make_app, stored):
    app = make_app(attachment={"base_url": "/here/", "former_base_urls": f"{FORMER} /there/"})
    record = Record(app, stored, moved.uri)
    attachment = record.data["attachment"]
    rebased = {**attachment, "location": attachment["location"].replace(FORMER, "/there/")}

    record.app.patch_json(record.path, {"data": {"attachment": rebased}})
    record.app.patch_json(record.path, {"data": {"title": "again"}})

    record.app.delete(record.path)
    assert record.files() == []

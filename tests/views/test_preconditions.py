"""``If-Match`` and ``If-None-Match``."""

from __future__ import annotations

import pytest

from tests.support.forms import Unread


def test_the_current_version_may_be_replaced(record):
    record.attach(b"first")

    record.attach(b"second", headers={"If-Match": record.etag})

    assert record.content == b"second"


@pytest.mark.parametrize("if_match", ['"1"', '"99999999999999999999"'])
@pytest.mark.parametrize("method", ["attach", "detach"])
def test_another_version_may_not(record, method, if_match):
    record.attach(b"first")
    before = record.data

    response = getattr(record, method)(status=412, headers={"If-Match": if_match})

    assert response.json["errno"] == 114
    assert response.json["details"]["existing"] == before
    assert response.headers["ETag"] == record.etag
    assert record.data == before
    assert record.content == b"first"


def test_detaching_the_current_version(record):
    record.attach()

    record.detach(headers={"If-Match": record.etag})

    assert record.data["attachment"] is None


@pytest.mark.parametrize("if_match", ['"1"', "*"])
def test_a_version_of_a_record_that_does_not_exist(record, if_match):
    response = record.attach(status=412, headers={"If-Match": if_match})

    assert response.json["errno"] == 114
    assert not record.exists
    assert record.files() == []


def test_any_version_of_a_record_that_exists(record):
    record.attach(b"first")

    assert record.attach(b"second", headers={"If-Match": "*"}).status_code == 200


def test_create_only(record):
    headers = {"If-None-Match": "*"}

    assert record.attach(b"first", headers=headers).status_code == 201

    record.attach(b"second", headers=headers, status=412)
    assert record.content == b"first"
    assert len(record.files()) == 1


@pytest.mark.sampled
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["abc", '"abc"', '*"1"', "*1", "1", '""', "W/*"])
@pytest.mark.parametrize("method", ["attach", "detach"])
def test_a_malformed_precondition(record, method, header, value):
    record.attach(b"first")
    before = record.data

    response = getattr(record, method)(status=400, headers={header: value})

    assert response.json["errno"] == 107
    assert header in response.json["message"]
    assert record.data == before


def test_a_stale_version_is_refused_before_the_body(record):
    record.attach(b"first")

    record.stream(Unread(), 412, CONTENT_LENGTH="1000", HTTP_IF_MATCH='"1"')

    assert record.content == b"first"

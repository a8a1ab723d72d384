"""Who may attach and detach files."""

from __future__ import annotations

import pytest

from tests.support.forms import Unread

COLLECTION = "/v1/buckets/b/collections/c"


def grant(record, path, permission, user="bob"):
    principal = record.as_user(user).app.userid
    record.app.patch_json(path, {"permissions": {permission: [principal]}})


@pytest.mark.parametrize(("user", "status", "errno"), [(None, 401, 104), ("bob", 403, 121)])
@pytest.mark.parametrize("method", ["attach", "detach"])
def test_a_stranger_may_not(record, method, user, status, errno):
    record.attach(b"first")

    response = getattr(record.as_user(user), method)(status=status)

    assert response.json["errno"] == errno
    assert record.content == b"first"
    assert len(record.files()) == 1


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("bob", 403)])
def test_a_stranger_is_refused_before_the_body(record, user, status):
    record.as_user(user).stream(Unread(), status, CONTENT_LENGTH="1000")


@pytest.mark.parametrize("path", ["/v1/buckets/b", COLLECTION])
def test_who_may_write_the_parent_may_attach(record, path):
    grant(record, path, "write")

    record.as_user("bob").attach(b"of bob")

    assert record.content == b"of bob"
    record.as_user("bob").detach()


def test_who_may_write_the_record_may_replace_its_file(record):
    record.attach(b"first")
    grant(record, record.path, "write")

    record.as_user("bob").attach(b"of bob")

    assert record.content == b"of bob"
    record.as_user("bob").detach()


def test_who_may_create_records_may_attach_to_a_new_one_only(record):
    grant(record, COLLECTION, "record:create")
    bob = record.as_user("bob")

    bob.other().attach(b"of bob")

    record.attach(b"of alice")
    bob.attach(b"of bob", status=403)
    assert record.content == b"of alice"


def test_creating_only_asks_for_the_permission_to_create(record):
    record.attach(b"first")
    grant(record, COLLECTION, "record:create")
    bob = record.as_user("bob")

    response = bob.attach(status=412, headers={"If-None-Match": "*"})

    assert response.json["errno"] == 114


def test_who_may_read_may_not_write(record):
    record.attach(b"first")
    grant(record, COLLECTION, "read")

    record.as_user("bob").attach(status=403)
    record.as_user("bob").detach(status=403)


def test_detaching_from_nothing_is_not_found_for_readers_and_refused_for_others(record):
    record.as_user("bob").detach(status=403)
    record.as_user(None).detach(status=401)

    grant(record, COLLECTION, "read")

    record.as_user("bob").detach(status=404)


def test_everyone_may_where_everyone_may_write(record):
    record.app.patch_json(COLLECTION, {"permissions": {"write": ["system.Everyone"]}})

    record.as_user(None).attach(b"anonymous")

    assert record.content == b"anonymous"


def test_principals_of_the_settings_may(make_record):
    record = make_record(**{"kinto.record_create_principals": "system.Authenticated"})

    assert record.as_user("bob").attach().status_code == 201


def test_a_read_only_server_takes_no_files(make_app, record):
    record.attach(b"first")
    reader = make_app(**{"kinto.readonly": "true"})
    target = type(record)(reader, record.stored, record.uri)

    target.attach(status=405)
    target.detach(status=405)

    assert record.content == b"first"

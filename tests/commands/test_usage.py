"""How many bytes and files there are, by bucket and collection."""

from __future__ import annotations

from tests.support.orphans import LINK

QUOTAS = {"quota_bytes": "1000", "resources.b.c.quota_files": "5"}


def test_files_are_listed_by_bucket_and_collection(record, command):
    record.attach(b"0123456")
    copy = {"data": {"attachment": record.data["attachment"]}}
    for collection in ("/v1/buckets/b/collections/d", "/v1/buckets/bb/collections/c"):
        record.app.put_json(collection.partition("/collections")[0], {})
        record.app.put_json(collection, {})
        record.app.put_json(f"{collection}/records/r", copy)
        record.app.put_json(f"{collection}/records/s", copy)
    record.other().attach(b"")

    result = command("usage", "--json", attachment=QUOTAS)

    assert result.status == 0
    assert result.findings == [
        {"uri": "/buckets/b", "files": 2, "bytes": 7},
        {"uri": "/buckets/b/collections/c", "files": 2, "bytes": 7, "quota_files": 5},
        {"uri": "/buckets/b/collections/d", "files": 1, "bytes": 7},
        {"uri": "/buckets/bb", "files": 1, "bytes": 7},
        {"uri": "/buckets/bb/collections/c", "files": 1, "bytes": 7},
    ]
    assert result.counts == {
        "files": 2,
        "bytes": 7,
        "quota of bytes": 1000,
        "files kept": 0,
        "bytes kept": 0,
        "files of unknown size": 0,
    }


def test_it_says_what_is_not_counted_yet(record, command, execute):
    record.attach(b"0123456")
    execute(LINK)

    result = command("usage", "--json")

    assert result.status == 0
    assert result.counts["files"] == 1
    assert result.counts["uploads to take over"] == 1


def test_for_people(make_record, command, execute):
    record = make_record(attachment={"keep_old_files": "true"})
    record.attach(b"0" * 1234)
    record.attach(b"0" * 2345)
    record.other().attach()
    # As of a file that an earlier version has attached without its size.
    execute("UPDATE objects SET data = data || '{\"size\": null}' WHERE data->>'size' = '7'")

    result = command("usage", attachment=QUOTAS)

    assert result.output.splitlines() == [
        "/buckets/b: 2 files, 2,345 bytes",
        "/buckets/b/collections/c: 2 of 5 files, 2,345 bytes",
        "",
        "files                             2",
        "bytes                         2,345",
        "quota of bytes                1,000",
        "files kept                        1",
        "bytes kept                    1,234",
        "files of unknown size             1",
    ]


def test_of_nothing(record, command):
    result = command("usage", "--json")

    assert result.findings == []
    assert result.counts["files"] == result.counts["bytes"] == 0


def test_commands_change_the_counts_of_quotas(make_record, command, execute):
    settings = {"attachment": {"quota_bytes": "10"}}
    record = make_record(**settings)
    record.attach(b"0123456789")
    execute("UPDATE objects SET data = data - 'attachment' WHERE resource_name = 'record'")

    assert command("check", "--repair", **settings).status == 0
    record.other().attach(b"9876543210")

"""Collections with more attachments than Kinto lists at once."""

from __future__ import annotations

import pytest

COLLECTION = "/v1/buckets/b/collections/c"

# More than the server lists at once.
MANY = 1_010
# Each gets its own copy of the rows of an upload, as if that had come many times.
MULTIPLY_RECORDS = """
INSERT INTO objects (id, parent_id, resource_name, last_modified, deleted, data)
SELECT 'r' || number, parent_id,
       resource_name, last_modified - number * interval '1 ms', FALSE,
       jsonb_set(data, '{attachment,location}', to_jsonb(%s || number || '.txt'))
  FROM objects, generate_series(1, %s) AS number
 WHERE resource_name = 'record' AND id = 'r'
"""
MULTIPLY_FILE_ROWS = """
INSERT INTO objects (id, parent_id, resource_name, last_modified, deleted, data)
SELECT objects.id,
       '__attachments__/' || encode(sha256((number || '.txt')::bytea), 'hex'),
       resource_name, last_modified - number * interval '1 ms', FALSE,
       data || jsonb_build_object(
           'name', number || '.txt', 'holders', jsonb_build_array(%s || number)
       )
  FROM objects, generate_series(1, %s) AS number
 WHERE resource_name = 'attachments'
"""
MULTIPLY_HOLDINGS = """
INSERT INTO objects (id, parent_id, resource_name, last_modified, deleted, data)
SELECT objects.id,
       '__attachments__/' || encode(sha256((%s || number)::bytea), 'hex'),
       resource_name, last_modified - number * interval '1 ms', FALSE,
       jsonb_build_object('uri', %s || number, 'name', number || '.txt')
  FROM objects, generate_series(1, %s) AS number
 WHERE resource_name = 'attachments-holdings'
"""


@pytest.fixture
def eight(make_record):
    """A record on a server that lists three objects at once; beside it are seven others, and in
    each of seven other collections there is one."""
    record = make_record(**{"kinto.storage_max_fetch_size": "3"})
    record.attach()
    for number in range(7):
        record.other(f"r{number}").attach(f"{number}".encode())
        record.app.put_json(f"/v1/buckets/b/collections/c{number}", {})
        record.other("r", f"c{number}").attach(f"{number}".encode())
    return record


@pytest.mark.both_storages
def test_all_the_files_of_a_collection_go(eight):
    eight.app.delete(COLLECTION)

    assert len(eight.files()) == 7
    eight.app.put_json(COLLECTION, {})
    assert eight.app.get(f"{COLLECTION}/records").json["data"] == []


@pytest.mark.both_storages
def test_all_the_files_of_a_bucket_go(eight):
    eight.app.delete("/v1/buckets/b")

    assert eight.files() == []


@pytest.mark.both_storages
@pytest.mark.parametrize("path", [f"{COLLECTION}/records", "/v1/buckets/b/collections"])
def test_the_files_of_those_go_that_kinto_deletes(eight, path):
    """Kinto deletes as many as it lists."""
    deleted = eight.app.delete(path).json["data"]

    assert 0 < len(deleted) < 8


@pytest.fixture
def many(make_record, backend, kinto_database):
    """A record beside very many others, each with a file."""
    record = make_record(**{"kinto.storage_max_fetch_size": "1000"})
    record.attach(b"content")
    uri, base_url = record.uri, "https://files.example.org/"
    # Kinto's triggers, which see to it that no two have the same time, take seconds for it.
    kinto_database.execute("SET session_replication_role = replica")
    kinto_database.execute(MULTIPLY_RECORDS, base_url, MANY)
    kinto_database.execute(MULTIPLY_FILE_ROWS, uri, MANY)
    kinto_database.execute(MULTIPLY_HOLDINGS, uri, uri, MANY)
    kinto_database.execute("RESET session_replication_role")
    for number in range(1, MANY + 1):
        (record.folder / f"{number}.txt").write_bytes(b"content")
    record.inventory.check()
    return record


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_all_of_them_go_where_each_page_has_very_many(many):
    many.app.delete(COLLECTION)

    assert many.files() == []
    many.app.put_json(COLLECTION, {})
    assert many.app.get(f"{COLLECTION}/records").json["data"] == []

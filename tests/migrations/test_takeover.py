"""Which records hold which file once the links of earlier versions are taken over."""

from __future__ import annotations

import hashlib

import pytest

from kinto_attachment.database import location_index
from tests.migrations.conftest import BASE_URL, uri_of

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

NAME = "b/c/one.txt"
ORIGINAL = {"filename": "file", "hash": "1" * 64, "mimetype": "text/plain", "size": 20}


LINKS = """
INSERT INTO objects (id, parent_id, resource_name, deleted, data)
SELECT 'l' || i, '__attachments__', '', FALSE,
       jsonb_build_object('location', md5(i::text) || '.txt')
  FROM generate_series(1, %s) AS i
"""
THEIR_RECORDS = """
INSERT INTO objects (id, parent_id, resource_name, deleted, data)
SELECT 'r' || i, '/buckets/' || bucket || '/collections/c', 'record', FALSE,
       jsonb_build_object('attachment', jsonb_build_object(
           'location', 'https://files.example.org/' || md5(i::text) || '.txt', 'size', i
       ))
  FROM generate_series(1, %s) AS i, unnest(ARRAY['b', 'main']) AS bucket
"""


@pytest.fixture
def attachment(earlier):
    """What the record ``c/r`` shows, which has a link."""
    attachment = earlier.store(NAME)
    earlier.show("c/r", attachment)
    earlier.link(NAME)
    return attachment


@pytest.mark.parametrize("resource_name", ["", "attachments"], ids=["0.x to 8.x", "9.x"])
def test_links_become_rows(earlier, resource_name):
    shown = earlier.store(NAME)
    earlier.link(NAME, resource_name=resource_name)
    for record in ("c/r", "main/r"):
        earlier.show(record, shown)

    earlier.migrate()

    assert earlier.row(NAME) == {
        "filename": "file.txt",
        "hash": hashlib.sha256(b"content").hexdigest(),
        "holders": [uri_of("c/r"), uri_of("main/r")],
        "mimetype": "text/plain",
        "name": NAME,
        "size": 7,
    }
    for record in ("c/r", "main/r"):
        assert earlier.holding(record) == {
            "uri": uri_of(record),
            "name": NAME,
            "location": f"{BASE_URL}{NAME}",
        }
    assert earlier.waiting == 0


def test_rows_are_written_as_kinto_would(earlier, attachment):
    earlier.migrate()

    rows = earlier.database.execute(
        "SELECT deleted, clock_timestamp()::timestamp - last_modified < '1 minute' FROM objects"
        " WHERE parent_id LIKE '%%attachments%%'"
    )
    assert rows == [(False, True)] * 2


def test_many_links(earlier):
    earlier.database.execute(LINKS, 1000)
    earlier.database.execute(THEIR_RECORDS, 1000)

    earlier.migrate()

    assert earlier.waiting == 0
    found = earlier.database.execute(
        "SELECT data->>'name', (data->>'size')::int, data->'holders' FROM objects"
        " WHERE resource_name = 'attachments' AND id = 'row'"
    )
    digests = {i: hashlib.md5(str(i).encode()).hexdigest() for i in range(1, 1001)}  # noqa: S324
    assert {name: (size, holders) for name, size, holders in found} == {
        f"{digest}.txt": (
            i,
            [f"/buckets/{bucket}/collections/c/records/r{i}" for bucket in ("b", "main")],
        )
        for i, digest in digests.items()
    }
    assert earlier.holding("c/r1000")["name"] == f"{digests[1000]}.txt"


def test_postgresql_has_statistics_of_what_was_written(earlier):
    earlier.database.execute("ANALYZE objects")
    earlier.database.execute(LINKS, 100)
    earlier.database.execute(THEIR_RECORDS, 100)

    earlier.migrate()

    # Of those before, a query for many rows would read all of a kind.
    kinds = earlier.database.execute(
        "SELECT most_common_vals FROM pg_stats"
        " WHERE tablename = 'objects' AND attname = 'resource_name'"
    )
    assert "attachments-holdings" in str(kinds)
    # Those of the index are its own.
    assert earlier.database.execute(
        f"SELECT 1 FROM pg_stats WHERE tablename = '{location_index.NAME}'"  # noqa: S608
    )


def test_rows_of_this_version_stay_as_they_are(earlier, attachment):
    earlier.show("main/r", attachment)
    earlier.migrate()
    before = earlier.objects()
    earlier.link("b/c/two.txt", "c/gone")

    earlier.migrate()

    assert earlier.objects() == before


@pytest.mark.parametrize(
    "change",
    [
        {"original": ORIGINAL},
        {"original": None},
        {"size": None},
        {"size": 7.0},
        {"size": "7"},
        {"size": -7},
        {"mimetype": "text/html\r\nX: y"},
        {"mimetype": 5},
        {"hash": "ABC"},
        {"filename": ["file"]},
        {"name": "x", "holders": ["y"], "extra": {"z": 1}},
    ],
    ids=str,
)
def test_metadata_of_another_form(earlier, attachment, change):
    shown = {**attachment, **change}
    earlier.show("c/r", shown)
    earlier.migrate()

    earlier.patch("c/r", title="new")
    earlier.patch("c/r", attachment=shown)
    earlier.patch("c/r", attachment={**shown, "more": True}, status=400)

    assert earlier.data("c/r")["attachment"] == shown
    earlier.app.put_json(f"/v1{uri_of('c/copy')}", {"data": {"attachment": shown}})
    earlier.delete("c/r")
    assert earlier.has(NAME)
    earlier.delete("c/copy")
    assert not earlier.has(NAME)


@pytest.mark.parametrize("missing", ["filename", "hash", "mimetype", "size"])
def test_metadata_that_lacks_something(earlier, attachment, missing):
    shown = {key: value for key, value in attachment.items() if key != missing}
    earlier.show("c/r", shown)
    earlier.migrate()

    earlier.patch("c/r", title="new")
    earlier.patch("c/r", attachment=attachment, status=400)

    assert earlier.data("c/r")["attachment"] == shown
    assert earlier.row(NAME)[missing] is None
    earlier.patch("c/r", attachment=None)
    assert not earlier.has(NAME)


def test_a_file_of_an_unknown_kind_is_served(make_earlier):
    base_url = "http://localhost/v1/files/"
    earlier = make_earlier(attachment={"serve_files": "true", "base_url": base_url})
    earlier.store(NAME)
    earlier.link(NAME)
    earlier.show("c/r", {"location": f"{base_url}{NAME}"})
    earlier.migrate()

    response = earlier.app.get(f"{base_url}{NAME}")

    assert response.body == b"content"
    assert response.headers["Content-Type"] == "application/octet-stream"


class TestRecordsThatDisagree:
    @pytest.fixture
    def other(self, earlier, attachment):
        """What ``main/r``, ``main/s`` and ``main/t`` show of the file of ``c/r``."""
        other = {**attachment, "mimetype": "text/html"}
        for record in ("main/r", "main/s", "main/t"):
            earlier.show(record, other)
        return other

    def test_the_one_with_the_link_is_right(self, earlier, attachment, other):
        earlier.migrate()

        assert earlier.row(NAME)["mimetype"] == "text/plain"
        assert len(earlier.row(NAME)["holders"]) == 4

    def test_else_what_most_of_them_say(self, earlier, attachment, other):
        earlier.delete("c/r")
        earlier.show("c/copy", attachment)

        earlier.migrate()

        assert earlier.row(NAME)["mimetype"] == "text/html"

    def test_the_others_are_in_the_log(self, earlier, other, caplog):
        earlier.migrate()

        assert "3 records show a file with other metadata" in caplog.text
        assert f'{uri_of("main/s")!r} shows {NAME!r} with \'{{"hash"' in caplog.text

    def test_the_others_hold_the_file_with_what_they_say(self, earlier, other):
        earlier.migrate()
        earlier.delete("c/r", "main/s", "main/t")

        earlier.patch("main/r", title="new")
        earlier.patch("main/r", attachment={**other, "size": 8}, status=400)

        assert earlier.data("main/r")["attachment"] == other
        assert earlier.has(NAME)
        earlier.delete("main/r")
        assert not earlier.has(NAME)

    def test_the_others_may_come_to_agree(self, earlier, attachment, other):
        earlier.migrate()

        earlier.patch("main/r", attachment=attachment)

        assert earlier.data("main/r")["attachment"] == attachment
        assert uri_of("main/r") in earlier.row(NAME)["holders"]

    def test_what_only_they_say_cannot_be_copied(self, earlier, other):
        earlier.migrate()

        earlier.patch("c/r", attachment=other, status=400)

    def test_it_comes_back_where_nothing_can_be_rolled_back(self, make_earlier):
        earlier = make_earlier(**{"kinto.transaction_per_request": "false"})
        attachment = earlier.store(NAME)
        earlier.link(NAME)
        earlier.show("c/r", attachment)
        other = {**attachment, "mimetype": "text/html"}
        earlier.show("main/r", other)
        earlier.migrate()

        for record in ("c/r", "main/r"):
            earlier.patch(record, attachment={**attachment, "size": 8}, status=400)

        assert earlier.data("c/r")["attachment"] == attachment
        assert earlier.data("main/r")["attachment"] == other


class TestLocations:
    BASES = {"extra.base_url": "https://x.org/", "former_base_urls": "https://old.org/ /deep/"}

    @pytest.mark.parametrize("base", ["https://x.org/", "https://old.org/", "/deep/", ""])
    def test_under_any_known_base_url(self, make_earlier, base):
        earlier = make_earlier(attachment=self.BASES)
        attachment = earlier.store(NAME)
        earlier.link(NAME)
        earlier.show("c/r", {**attachment, "location": f"{base}{NAME}"})

        earlier.migrate()

        earlier.patch("c/r", title="new")
        assert earlier.row(NAME)["holders"] == [uri_of("c/r")]

    def test_under_the_longest_of_them(self, make_earlier):
        earlier = make_earlier(attachment={"former_base_urls": "https://files.example.org/b/"})
        attachment = earlier.store(NAME)
        for name in (NAME, "c/one.txt"):
            earlier.link(name)
        earlier.show("c/r", attachment)

        earlier.migrate()

        assert earlier.holding("c/r")["name"] == "c/one.txt"
        assert earlier.row(NAME) is None

    @pytest.mark.parametrize("base", ["https://old.org/", "https://old.org/deep/", "/old/"])
    def test_links_wait_whose_file_is_shown_under_an_unknown_one(
        self, make_earlier, base, earlier, attachment, caplog
    ):
        earlier.show("main/r", {**attachment, "location": f"{base}{NAME}"})

        earlier.migrate()

        assert earlier.waiting == 1
        assert earlier.row(NAME) is None
        assert f"  {base!r} (1 records)" in caplog.text
        make_earlier(attachment={"former_base_urls": base}).migrate()
        assert earlier.waiting == 0
        assert len(earlier.row(NAME)["holders"]) == 2

    def test_the_log_names_it_harmlessly(self, earlier, attachment, caplog):
        earlier.show("main/r", {**attachment, "location": f"https://\x1b[2J\u202e/{NAME}"})

        earlier.migrate()

        assert "https://\\x1b[2J\\u202e/" in caplog.text
        assert "\x1b" not in caplog.text

    def test_another_file_of_that_name_elsewhere_is_not_meant(self, earlier, attachment):
        elsewhere = {**attachment, "location": f"https://old.org/{NAME}", "hash": "0" * 64}
        earlier.show("main/r", elsewhere)

        earlier.migrate()

        assert earlier.waiting == 0
        assert earlier.row(NAME)["holders"] == [uri_of("c/r")]

    @pytest.mark.parametrize(
        "shown", [None, 5, "text", [], {}, {"location": 5}, {"location": "https://a.org/x"}]
    )
    def test_what_is_not_a_file_of_ours_is_left_alone(self, earlier, attachment, shown):
        earlier.show("main/r", shown)

        earlier.migrate()

        assert earlier.holding("main/r") is None
        earlier.patch("main/r", title="new")
        assert earlier.data("main/r")["attachment"] == shown

    def test_a_location_with_very_many_slashes(self, earlier, attachment):
        location = "https://old.org" + "/x" * 100_000
        earlier.show("main/r", {**attachment, "location": location})

        earlier.migrate()

        assert earlier.waiting == 0


class TestLinks:
    @pytest.mark.parametrize("name", [None, "", 5])
    @pytest.mark.parametrize("record", ["c/r", None, "x"])
    def test_odd_ones_go(self, earlier, name, record):
        earlier.link(name, {"x": "/v1/elsewhere"} if record == "x" else record)

        earlier.migrate()

        assert earlier.waiting == 0

    def test_several_of_one_file(self, earlier, attachment):
        earlier.link(NAME)
        earlier.link(NAME, "main/r", resource_name="attachments")
        earlier.show("main/r", attachment)

        earlier.migrate()

        assert earlier.row(NAME)["holders"] == [uri_of("c/r"), uri_of("main/r")]

    @pytest.mark.parametrize(
        ("record", "settings", "kept"),
        [
            ("c/gone", {}, False),
            ("c/gone", {"keep_old_files": "true"}, True),
            (None, {"keep_old_files": "true"}, True),
            ("c/gone", {"resources.b.c.keep_old_files": "true"}, True),
            (None, {"resources.b.c.keep_old_files": "true"}, False),
            (
                "c/gone",
                {"keep_old_files": "true", "resources.b.c.keep_old_files": "false"},
                False,
            ),
        ],
    )
    def test_a_file_that_no_record_shows(self, make_earlier, record, settings, kept):
        earlier = make_earlier(attachment=settings)
        earlier.store(NAME)
        earlier.link(NAME, record)

        earlier.migrate()

        row = earlier.row(NAME)
        assert (row is not None and row["kept"] > 0 and row["holders"] == []) is kept
        assert (row is not None) is kept
        assert earlier.has(NAME)
        assert earlier.waiting == 0

    def test_a_file_that_has_a_row_gets_the_holders_that_came_since(self, earlier, attachment):
        earlier.migrate()
        earlier.link(NAME)
        earlier.show("main/r", attachment)

        earlier.migrate()

        assert earlier.row(NAME)["holders"] == [uri_of("c/r"), uri_of("main/r")]

    def test_a_record_whose_file_was_replaced_after_a_way_back_holds_the_new_one(
        self, earlier, attachment
    ):
        earlier.show("main/r", attachment)
        earlier.migrate()
        name = "b/c/two.txt"
        earlier.show("c/r", earlier.store(name, b"two"))
        earlier.link(name)

        earlier.migrate()

        assert earlier.row(name)["holders"] == [uri_of("c/r")]
        assert earlier.holding("c/r")["name"] == name
        assert earlier.holding("main/r")["name"] == NAME
        earlier.delete("c/r")
        assert not earlier.has(name)
        assert earlier.has(NAME)

    def test_a_kept_file_is_held_again(self, make_earlier):
        earlier = make_earlier(attachment={"keep_old_files": "true"})
        attachment = earlier.store(NAME)
        earlier.show("c/r", attachment)
        earlier.link(NAME)
        earlier.migrate()
        earlier.delete("c/r")
        assert "kept" in earlier.row(NAME)
        earlier.link(NAME)
        earlier.show("c/r", attachment)

        earlier.migrate()

        assert earlier.row(NAME)["holders"] == [uri_of("c/r")]
        assert "kept" not in earlier.row(NAME)

    def test_a_file_that_has_gone_is_not_held_again(self, earlier, attachment):
        earlier.migrate()
        earlier.delete("c/r")
        before = earlier.row(NAME)
        earlier.link(NAME)
        earlier.show("c/r", attachment)

        earlier.migrate()

        assert earlier.row(NAME) == before
        assert earlier.holding("c/r") is None
        assert earlier.waiting == 0

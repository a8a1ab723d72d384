"""``kinto-attachment preflight``, before ``kinto migrate`` and before this version starts."""

from __future__ import annotations

import json

import pytest

from kinto_attachment.commands import preflight

ANY = {"extensions": "any"}
BASE_URL = "https://files.example.org/"
ATTACHMENT = {"filename": "f", "hash": "1" * 64, "mimetype": "text/plain", "size": 1}
INSERT = """
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
VALUES (%s, %s, %s, CAST(%s AS jsonb), FALSE)
"""
EVERYTHING = (
    "SELECT * FROM objects ORDER BY 1, 2, 3",
    "SELECT * FROM metadata ORDER BY 1, 2",
    "SELECT * FROM timestamps ORDER BY 1, 2",
    "SELECT oid, relname FROM pg_class ORDER BY 1",
)


@pytest.fixture
def link(execute):
    """``link(name)``: an earlier version has noted the upload of a file."""

    def insert(name, resource_name=""):
        execute(INSERT, name, "__attachments__", resource_name, json.dumps({"location": name}))

    return insert


@pytest.fixture
def show(execute):
    """``show(record_id, location)``: a record has this attachment."""

    def insert(record_id, location, **changed):
        data = {"attachment": {**ATTACHMENT, "location": location, **changed}}
        parent = "/buckets/b/collections/c"
        execute(INSERT, record_id, parent, "record", json.dumps(data))

    return insert


def told(result, kind):
    return [finding for finding in result.findings if finding["kind"] == kind]


def test_an_ini_file_that_is_as_it_should_be(command):
    result = command("preflight", attachment=ANY)

    assert result.status == 0, result.output
    assert "stays as it is: base_path, base_url, extensions\n" in result.output
    assert "migration: there is nothing to take over.\n" in result.output


def test_what_has_to_be_decided_first(command):
    result = command("preflight")

    assert result.status == 1
    assert "to be decided: kinto.attachment.extensions is not set" in result.output
    assert result.output.splitlines()[-1].split() == ["to", "be", "decided", "1"]


def test_it_works_where_the_server_does_not_start(command):
    settings = {**ANY, "gzipped": "true", "max_size": "1000"}

    assert command("check", attachment=settings).status == 2
    result = command("preflight", "--json", attachment=settings)

    assert result.status == 1
    assert [finding["text"].split()[0] for finding in told(result, "refused")] == [
        "kinto.attachment.gzipped",
        "kinto.attachment.max_size",
    ]
    assert result.counts["stops the server"] == 2


def test_changes_that_need_no_decision(command):
    result = command("preflight", attachment={**ANY, "filename_pattern": "{datetime}-{filename}"})

    assert result.status == 0
    assert "changes: kinto.attachment.filename_pattern" in result.output


def test_what_the_migration_finds(command, link, show):
    for name in ("b/c/1.txt", "b/c/2.txt", "left.txt"):
        link(name)
    link("9.txt", "attachments")
    show("1", f"{BASE_URL}b/c/1.txt")
    show("copy", f"{BASE_URL}b/c/1.txt")
    show("2", "b/c/2.txt")
    show("9", f"{BASE_URL}9.txt")
    show("elsewhere", "https://other.org/file.txt")

    result = command("preflight", "--json", attachment=ANY)

    assert result.status == 0
    assert result.counts == {
        "uploads to take over": 4,
        "files of these uploads": 4,
        "files without a record": 1,
        "records with an attachment": 5,
        "records that reference these files": 4,
        "records under an unknown base URL": 0,
        "stops the server": 0,
        "to be decided": 0,
    }
    assert [(each.get("base"), each.get("records")) for each in told(result, "records")] == [
        (BASE_URL, 3),
        ("", 1),
        (None, None),
    ]
    assert told(result, "records")[-1]["others"] == 1
    [estimate, left] = told(result, "migration")
    assert estimate["seconds"] == [1, 1]
    assert left["files"] == 1
    assert len(told(result, "final")) == 2


def test_a_base_url_that_is_not_known_is_to_be_decided(command, link, show):
    link("1.txt")
    link("2.txt")
    for record_id, location in enumerate(("https://old.org/~a/1.txt", "https://old.org/~a/2.txt")):
        show(str(record_id), location)
    # Another file of that name.
    show("other", f"{BASE_URL}2.txt", hash="2" * 64)

    result = command("preflight", "--json", attachment=ANY)

    assert result.status == 1
    [base] = told(result, "decide")
    assert (base["base"], base["records"]) == ("https://old.org/~a/", 1)
    # As it is written in an ini file: quotes would be part of it.
    assert base["text"].endswith(" add https://old.org/~a/ to kinto.attachment.former_base_urls.")
    settings = {**ANY, "former_base_urls": base["base"]}
    assert command("preflight", attachment=settings).status == 0


def test_base_urls_are_bounded(command, link, show):
    link("1.txt")
    for number in range(22):
        show(str(number), f"https://{'old' * 100}.org/{number}/1.txt")

    result = command("preflight", "--json", attachment=ANY)

    assert len(told(result, "decide")) == 20
    assert {len(base["base"]) for base in told(result, "decide")} == {200}
    assert [finding["more"] for finding in told(result, "records")] == [2]


def test_an_ini_file_without_settings_of_the_plugin(command):
    result = command("preflight", attachment=dict.fromkeys(("base_path", "base_url")))

    assert result.status == 1
    assert "stops the server: kinto_attachment does not know where to store" in result.output
    assert "stays as it is" not in result.output


def test_settings_are_bounded(command):
    many = {f"resources.b.c{number}.randomize": "true" for number in range(40)}

    result = command("preflight", attachment={**ANY, **many})

    assert " and 13 more\n" in result.output


def test_nothing_is_changed(command, link, show, execute, files):
    link("1.txt")
    show("1", f"{BASE_URL}1.txt")
    before = [execute(query) for query in EVERYTHING]

    assert command("preflight", attachment=ANY).status == 0

    assert [execute(query) for query in EVERYTHING] == before
    assert not files.exists()


def test_a_database_without_tables(command, new_database):
    result = command("preflight", attachment=ANY, **new_database("template1").settings)

    assert result.status == 1
    assert "to be decided: the database has no table objects" in result.output


def test_a_database_that_does_not_answer(command, postgresql):
    result = command("preflight", **{"kinto.storage_url": postgresql.url_of("nothing")})

    assert result.status == 2
    assert "kinto.attachment.extensions is not set" in result.output
    assert "kinto-attachment: the database cannot be read: " in result.errors


def test_records_in_memory(command):
    settings = {"kinto.storage_backend": "kinto.core.storage.memory", "kinto.storage_url": None}

    result = command("preflight", attachment=ANY, **settings)

    assert result.status == 0
    assert "migration: kinto.storage_backend is not PostgreSQL" in result.output


def test_a_server_without_the_plugin(command):
    result = command("preflight", attachment=ANY, **{"kinto.includes": None})

    assert result.status == 1
    assert "to be decided: kinto.includes has no kinto_attachment" in result.output


def test_a_library_that_is_not_installed(command, monkeypatch):
    def open_files(*arguments):
        raise ImportError("no google")

    monkeypatch.setattr(preflight, "open_files", open_files)

    result = command("preflight", attachment=ANY)

    assert result.status == 1
    assert "stops the server: kinto.attachment.gcloud.bucket_name needs Google" in result.output


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinto.storage_backend": "nowhere"}, "nowhere"),
        ({"kinto.storage_max_fetch_size": "many"}, "many"),
        ({"kinto.storage_url": "nonsense"}, "the database cannot be read: "),
        ({"kinto.storage_url": None}, "the database cannot be read: "),
    ],
    ids=str,
)
def test_settings_of_kinto_that_cannot_be_read(command, settings, words):
    result = command("preflight", attachment=ANY, **settings)

    assert result.status == 2
    assert words in result.errors


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(1, 1, "1 s"), (1, 2, "1 to 2 s"), (20, 120, "1 to 2 min"), (300, 900, "5 to 15 min")],
)
def test_long_times_are_in_minutes(low, high, text):
    assert preflight._duration(low, high) == text

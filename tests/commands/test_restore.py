"""``kinto-attachment restore``: files come back from a backup."""

from __future__ import annotations

import os

import pytest

from kinto_attachment.commands import restore
from kinto_attachment.storage import StorageUnavailable
from kinto_attachment.storage.files import Files
from tests.support.inventory import Bucket, GoogleBucket

BASE = "https://files.example.org/"

everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])


@pytest.fixture
def settings(stored):
    """Settings with a private store, and ``cache_control``."""
    private = {**stored.private_settings, "resources.b.d.private": "true"}
    return {"attachment": {**private, "cache_control": "max-age=60"}}


@pytest.fixture
def record(make_record, settings):
    """A record with a file, and another one with a private file."""
    record = make_record(**settings)
    record.app.put_json("/v1/buckets/b/collections/d", {})
    record.attach(b"content", "plan.txt", "text/x-plan")
    private_of(record).attach(b"private", "secret.txt", "text/x-secret")
    return record


@pytest.fixture
def run(command, settings):
    """``run(path, ...)`` restores."""
    return lambda *arguments: command("restore", "--json", *map(str, arguments), **settings)


@pytest.fixture
def backup(tmp_path):
    """A folder with both files, whatever they are called, and one that nobody needs."""
    folder = tmp_path / "backup"
    (folder / "inner").mkdir(parents=True)
    (folder / "one").write_bytes(b"content")
    (folder / "inner" / "two").write_bytes(b"private")
    (folder / "inner" / "other").write_bytes(b"another")
    (folder / "larger").write_bytes(b"nobody needs this")
    return folder


def private_of(record):
    return record.other("r", "d")


def name_of(record):
    return record.data["attachment"]["location"].removeprefix(BASE)


def lose(record):
    name = name_of(record)
    record.app.registry.attachment_files.delete(name)
    return name


@pytest.fixture
def attributes(stored, request):
    """``attributes(name)``: what the storage has of a file besides its content."""

    def of(name):
        key = name.removeprefix("_private/")
        is_private = key != name
        if isinstance(stored, Bucket):
            server = request.getfixturevalue("seaweedfs")
            place = {"Bucket": server.private_bucket if is_private else server.bucket, "Key": key}
            head = server.admin.head_object(**place)
            grants = server.admin.get_object_acl(**place)["Grants"]
            disposition = head.get("ContentDisposition")
            return head["ContentType"], head.get("CacheControl"), disposition, grants
        if isinstance(stored, GoogleBucket):
            server = request.getfixturevalue("gcs")
            found = server.objects(f"{server.bucket}{'-private' * is_private}")[key]
            given = {key: found.properties.get(key) for key in ("contentType", "cacheControl")}
            return given, found.properties.get("contentDisposition"), found.acl
        return stored.path_of(name).stat().st_mode

    return of


@everywhere
def test_lost_files_come_back_as_they_were(record, run, backup, attributes, command, settings):
    before = {name: attributes(name) for name in record.files()}
    names = sorted([lose(record), lose(private_of(record))])
    assert command("check", **settings).status == 1

    result = run(backup)

    assert result.status == 0
    assert result.counts["files restored"] == 2
    assert result.counts["bytes restored"] == 14
    assert result.counts["files of the backup"] == 4
    assert result.counts["files not needed"] == 2
    assert record.files() == names
    assert {name: attributes(name) for name in names} == before
    assert (record.content, private_of(record).content) == (b"content", b"private")
    assert command("check", "--hash", **settings).status == 0


def test_one_file_comes_back_under_all_its_names(record, run, backup):
    record.other().attach(b"content")
    names = sorted([lose(record), lose(record.other())])
    (backup / "link").symlink_to(backup / "one")

    result = run(backup / "link")

    assert sorted(finding["name"] for finding in result.findings) == names
    assert (record.content, record.other().content) == (b"content", b"content")


def test_nothing_is_written_in_a_dry_run(record, run, backup):
    name = lose(record)
    before = record.files()

    result = run("--dry-run", backup)

    assert result.status == 0
    assert result.counts["files to restore"] == 1
    assert [finding["name"] for finding in result.findings] == [name]
    assert record.files() == before


def test_a_file_that_no_record_needs_is_refused(record, run, backup):
    before = record.files()

    result = run(backup / "inner" / "other")

    assert result.status == 1
    [finding] = result.findings
    assert "no record needs a file with its SHA-256" in finding["text"]
    assert record.files() == before


def test_a_file_that_a_record_has_given_up_is_refused(record, run, backup):
    record.detach()

    assert run(backup / "one").status == 1


def test_a_kept_file_comes_back(make_record, settings, command, backup):
    keep = {"attachment": {**settings["attachment"], "keep_old_files": "true"}}
    record = make_record(**keep)
    record.attach(b"content")
    name = lose(record)
    record.detach()

    assert command("restore", str(backup), **keep).status == 0

    assert record.files() == [name]


def test_a_file_that_is_there_is_not_written(record, run, backup):
    path = record.stored.path_of(name_of(record))
    before = path.stat()

    result = run(backup / "one")

    assert result.status == 0
    assert result.counts["files there already"] == 1
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damaged", [b"c0ntent", b"cont"])
def test_a_file_that_differs_is_told_and_stays(record, run, backup, damaged):
    path = record.stored.path_of(name_of(record))
    path.write_bytes(damaged)

    result = run(backup / "one")

    assert result.status == 1
    assert result.findings[0]["problem"] == "different"
    assert path.read_bytes() == damaged


def test_a_record_that_goes_meanwhile_gets_no_file(record, run, backup, monkeypatch):
    lose(record)
    digest_of = restore._Backup._digest

    def digest(self, inner):
        record.app.delete(record.path)
        return digest_of(self, inner)

    monkeypatch.setattr(restore._Backup, "_digest", digest)

    result = run(backup / "one")

    assert result.status == 0
    assert result.counts["files deleted meanwhile"] == 1
    assert record.files() == [name_of(private_of(record))]


def test_what_cannot_be_read_is_told(record, run, backup, monkeypatch):
    os.mkfifo(backup / "pipe")
    scandir = os.scandir

    def closed(path, *arguments):
        if str(path).endswith("/inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path, *arguments)

    monkeypatch.setattr(os, "scandir", closed)
    name = lose(record)

    result = run(backup, backup / "pipe")

    assert result.status == 1
    assert result.counts["files or folders that cannot be read"] == 2
    told = [finding.get("path") or finding["name"] for finding in result.findings]
    assert sorted(told) == sorted([name, "inner", str(backup / "pipe")])
    assert record.content == b"content"


def test_a_path_that_does_not_exist_is_refused(record, run, backup):
    result = run(backup, backup / "nothing")

    assert result.status == 2
    assert "nothing" in result.errors


def test_a_path_that_leads_nowhere_is_refused(record, run, backup):
    (backup / "loop").symlink_to(backup / "loop")

    result = run(backup / "loop")

    assert result.status == 2
    assert "Too many levels of symbolic links" in result.errors


@pytest.mark.parametrize("option", ["--dry-run", None])
def test_a_file_that_several_backups_have_counts_once(record, run, backup, option):
    lose(record)
    (backup / "older").write_bytes(b"content")

    result = run(*filter(None, [option, backup]))

    assert result.counts["files to restore" if option else "files restored"] == 1
    assert result.counts["bytes to restore" if option else "bytes restored"] == len(b"content")


def test_a_storage_that_is_down_is_not_asked_for_ever(record, run, backup, monkeypatch):
    monkeypatch.setattr(restore, "_MAX_FAILURES", 2)
    for number in range(4):
        record.other(f"r{number}").attach(b"content")
        lose(record.other(f"r{number}"))

    def stage(self, new):
        raise StorageUnavailable("down")

    monkeypatch.setattr(Files, "stage", stage)

    result = run(backup)

    assert result.status == 1
    assert result.counts["files that failed"] == 2
    assert result.findings[-1]["problem"] == "untried"

"""``--prefix``: ``gc`` and ``check`` list a part of the storage, and draw no conclusions about the
rest."""

from __future__ import annotations

import time

import pytest

from kinto_attachment.commands.marks import MARKS
from kinto_attachment.commands.scope import Scope
from tests.support.inventory import Folder
from tests.support.orphans import ANOTHER, LARGE, PART, STRAY, names

IN_FOLDERS = {"folder": "{bucket_id}/{collection_id}"}
# Of another program, in a bucket that it fills.
BUNDLE = "bundles/a.zip"
HIDDEN = ".git/config"

both = pytest.mark.parametrize("where", ["local", "s3"])
everywhere = pytest.mark.parametrize("where", ["local", "s3", "gcloud"])


def put(record, name):
    if isinstance(record.stored, Folder):
        path = record.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    else:
        record.stored.put(name, b"12345")


@pytest.fixture
def attached(make_record):
    """A record with a file below ``b/c``; strays, parts and foreign files."""
    record = make_record(attachment=IN_FOLDERS)
    record.attach(b"content")
    for name in (f"b/c/{STRAY}", f"other/{ANOTHER}", LARGE, PART, BUNDLE, HIDDEN):
        put(record, name)
    return record


def run(command, *options, **settings):
    given = {"attachment": IN_FOLDERS, **settings}
    return command("gc", "--delete", "--older-than=0s", "--json", *options, **given)


@everywhere
def test_only_files_below_the_prefix_and_hidden_parts_go(attached, command):
    told = command("gc", "--json", "--older-than=0s", "--prefix=b/", attachment=IN_FOLDERS)
    result = run(command, "--prefix=b/")

    assert names(told) == names(result) == [PART, f"b/c/{STRAY}"]
    assert result.counts["files stored"] == 3
    assert {f"other/{ANOTHER}", LARGE, BUNDLE, HIDDEN} < set(attached.files())
    assert attached.content == b"content"


@both
def test_several_prefixes_may_cover_each_other(attached, command):
    result = run(command, "--prefix=b/", "--prefix=b/c", "--prefix=o", "--prefix=b/")

    assert names(result) == [PART, f"b/c/{STRAY}", f"other/{ANOTHER}"]
    assert result.counts["files stored"] == 4


@everywhere
def test_a_file_outside_of_the_prefix_is_not_missing(attached, command):
    options = ("check", "--json", "--prefix=other/")
    result = command(*options, attachment=IN_FOLDERS)
    assert (result.status, result.findings) == (0, [])

    [name] = [name for name in attached.files() if name.startswith("b/c/") and STRAY not in name]
    if isinstance(attached.stored, Folder):
        (attached.folder / name).unlink()
    else:
        attached.stored.remove(name)
    assert command(*options, attachment=IN_FOLDERS).status == 0
    missing = command("check", "--json", "--prefix=b/", attachment=IN_FOLDERS)
    assert [finding["problem"] for finding in missing.findings] == ["missing"]


def test_unreferenced_files_outside_of_the_prefix_are_not_told(attached, command):
    options = ("check", "--json", "--older-than=0s")

    assert names(command(*options, "--prefix=b/", attachment=IN_FOLDERS)) == [
        PART,
        f"b/c/{STRAY}",
    ]
    assert len(names(command(*options, attachment=IN_FOLDERS))) == 4


def test_the_row_of_a_file_outside_of_the_prefix_is_not_forgotten(attached, command, execute):
    """It says that the file is gone, which may still be stored: the storage was down."""
    attached.detach()
    before = ("gc", "--json", "--older-than=0s")

    assert command(*before, attachment=IN_FOLDERS).counts["rows to forget"] == 1
    assert run(command, "--prefix=other/").counts["rows forgotten"] == 0
    assert run(command, "--prefix=b/").counts["rows forgotten"] == 1


def test_marks_outside_of_the_prefix_stay(attached, command, execute):
    command("gc", "--mark", "--older-than=0s", attachment=IN_FOLDERS)

    result = command("gc", "--mark", "--older-than=0s", "--prefix=b/", attachment=IN_FOLDERS)

    assert result.status == 0
    [(count,)] = execute("SELECT count(*) FROM objects WHERE resource_name = %s", MARKS)
    assert count == 4


def test_kept_files_in_other_folders_stay(make_record, command):
    keep = {**IN_FOLDERS, "keep_old_files": "true"}
    record = make_record(attachment=keep)
    for content in (b"first", b"second"):
        record.attach(content)
    time.sleep(0.01)

    options = ("--kept-older-than=0s", "--prefix")
    assert names(run(command, *options, "other/", attachment=keep)) == []
    assert len(names(run(command, *options, "b/", attachment=keep))) == 1


def test_a_few_files_below_the_prefix_do_not_allow_many_strays(attached, command):
    """A tenth is a tenth of what was listed."""
    for number in range(101):
        put(attached, f"b/c/{STRAY[:-6]}{number:02x}.{number}")
    for number in range(2000):
        put(attached, f"other/{number}.txt")

    result = run(command, "--prefix=b/")

    assert result.status == 2
    assert "--allow-many" in result.errors


def test_the_wrong_database_is_refused_below_a_prefix_too(attached, command, execute):
    execute("DELETE FROM objects")
    (attached.folder / ".kinto-attachment").unlink()

    assert "knows none of the stored files" in run(command, "--prefix=b/").errors


@pytest.mark.parametrize("where", ["s3"])
def test_unfinished_uploads_to_other_prefixes_are_left(attached, stored, command):
    for name in (f"b/c/{LARGE}", f"other/{LARGE}", PART):
        stored.start_upload(name)
    aborted = run(command, "--prefix=b/", "--exclude=*/" + STRAY).findings

    found = [finding["name"] for finding in aborted if "aborted" in finding]
    assert sorted(found) == [PART, f"b/c/{LARGE}"]


@pytest.mark.parametrize("value", ["", "/main/", "a//b", "../main/", "./main/", "a/../b"])
def test_a_prefix_that_no_name_has(command, value):
    with pytest.raises(SystemExit):
        command("gc", f"--prefix={value}")


@pytest.mark.parametrize(
    ("prefixes", "covered", "other"),
    [
        ([], ["a", "b/c", PART], []),
        (["main"], ["main/a", "main-preview/a", PART], ["other/main", ".git/config"]),
        (["main/x", "main/"], ["main/a", "main/x"], ["main-preview/a", "main", "a"]),
    ],
)
def test_what_a_scope_covers(prefixes, covered, other):
    scope = Scope(prefixes)

    assert all(map(scope.covers, covered))
    assert not any(map(scope.covers, other))

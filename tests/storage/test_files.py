"""Public and private files, each in a store of its own, as one storage."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable
from kinto_attachment.storage.files import Files
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage
from tests.storage.conftest import UsedMeanwhile


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(
        LocalStorage(tmp_path / "public", "https://files.example.org/"),
        LocalStorage(tmp_path / "private"),
    )


def store(files: Files, content: bytes = b"content", **options) -> str:
    staged = files.stage(NewFile("a.txt", **options))
    staged.write(content)
    return staged.finish()


def on_disk(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_private_file_is_in_the_private_store_alone(files, tmp_path):
    name = store(files, private=True, folder="b/c")

    assert name.startswith("_private/b/c/")
    assert on_disk(tmp_path / "private") == [name.removeprefix("_private/")]
    assert on_disk(tmp_path / "public") == []
    assert b"".join(files.read(name)) == b"content"
    assert b"".join(files.read(name, 1, 3)) == b"on"
    assert files.stat(name).name == name
    assert files.exists(name)
    assert files.url(name) == f"https://files.example.org/{name}"


def test_a_public_file_is_in_the_public_store_alone(files, tmp_path):
    name = store(files)

    assert on_disk(tmp_path / "public") == [name]
    assert on_disk(tmp_path / "private") == []
    assert b"".join(files.read(name)) == b"content"


def test_all_files_are_listed_under_their_names(files):
    names = {store(files), store(files, private=True)}

    assert {file.name for file in files.list()} == names


def test_a_prefix_may_name_either_store(files):
    public, private = store(files, folder="b"), store(files, private=True, folder="b")

    for prefix, expected in {
        "": {public, private},
        "_pri": {private},
        "_private/b/": {private},
        "_private/c/": set(),
        "b/": {public},
    }.items():
        assert {file.name for file in files.list(prefix=prefix)} == expected


def test_what_lies_in_the_public_store_under_a_private_name_is_none_of_the_files(files, tmp_path):
    stranger = tmp_path / "public" / "_private" / "a.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"stranger")

    assert list(files.list()) == []
    with pytest.raises(FileNotFoundError):
        files.read("_private/a.txt")
    assert not files.delete("_private/a.txt")
    assert stranger.exists()


def test_an_unreadable_folder_is_told_by_the_name_that_its_files_have(
    files, tmp_path, monkeypatch
):
    def unreadable(on_unreadable, prefix):
        on_unreadable("b", StorageUnavailable())
        return iter(())

    monkeypatch.setattr(files.private, "list", unreadable)
    told = []

    assert list(files.list(lambda name, error: told.append(name))) == []
    assert told == ["_private/b"]


def test_files_are_deleted_where_they_are(files, tmp_path):
    names = [store(files), store(files, private=True)]

    assert [error for _, error in files.delete_many(names)] == [None, None]

    assert on_disk(tmp_path) == []
    assert not files.delete(names[1])


def test_a_name_that_was_used_does_not_come_back(files):
    first, second = (store(files, private=True, randomize=False) for _ in range(2))
    assert (first, second) == ("_private/a.txt", "_private/a-1.txt")
    files.delete(first)

    staged = files.stage(NewFile("a.txt", private=True, randomize=False))

    assert staged.finish(UsedMeanwhile("_private/a.txt")) == "_private/a-2.txt"


@pytest.mark.parametrize("name", ["_private/b/a.txt", "b/a.txt"])
def test_an_exact_name_says_which_store_it_is_in(files, name, tmp_path):
    staged = files.stage(NewFile(name, exact_name=True))

    assert staged.finish() == name
    assert [file.name for file in files.list()] == [name]
    assert on_disk(tmp_path / "public") == ([] if name.startswith("_private/") else [name])


def test_a_discarded_private_file_leaves_nothing(files, tmp_path):
    staged = files.stage(NewFile("a.txt", private=True))
    staged.write(b"content")
    assert [file.name.startswith("_private/.") for file in files.list()] == [True]

    staged.discard()

    assert on_disk(tmp_path) == []


@pytest.mark.parametrize("private", [True, False])
def test_a_resumable_file(files, private, tmp_path):
    state = files.create(NewFile("a.txt", private=private))
    with closing(files.resume(state)) as file:
        file.write(b"con")
        state = file.checkpoint()
    assert {file.name for file in files.list()} <= files.used_by(state)
    with closing(files.resume(state)) as file:
        assert file.offset == 3
        file.write(b"tent")
        state = file.checkpoint()
        name = file.finish(lambda name: False)

    assert name in files.used_by(state)
    assert name.startswith("_private/") == private
    assert b"".join(files.read(name)) == b"content"
    assert on_disk(tmp_path / ("public" if private else "private")) == []


@pytest.mark.parametrize("private", [True, False])
def test_a_resumable_file_that_is_given_up(files, private, tmp_path):
    discarded, cancelled = (files.create(NewFile("a.txt", private=private)) for _ in range(2))
    with closing(files.resume(discarded)) as file:
        file.discard()
    files.cancel(cancelled)

    assert on_disk(tmp_path) == []


def test_unfinished_uploads_of_both_buckets(moto, make_s3):
    moto.create_private_bucket()
    files = Files(make_s3(moto), make_s3(moto, bucket=moto.private_bucket))
    size = 20 * 1024 * 1024
    states = [files.create(NewFile("a.txt", private=each, size=size)) for each in (False, True)]

    uploads = list(files.incomplete())

    assert [each.name.startswith("_private/") for each in uploads] == [False, True]
    for upload, state in zip(uploads, states, strict=True):
        assert {upload.name, upload.id} <= files.used_by(state)
        files.abort(upload)
    assert list(files.incomplete()) == []
    assert isinstance(files.stores["_private/"], S3Storage)


def test_without_a_private_store_its_files_are_out_of_reach(tmp_path):
    files = Files(LocalStorage(tmp_path / "public"))

    for use in (
        lambda: files.stage(NewFile("a.txt", private=True)),
        lambda: files.create(NewFile("a.txt", private=True)),
        lambda: files.resume({"private": True}),
        lambda: files.read("_private/a.txt"),
        lambda: files.delete("_private/a.txt"),
    ):
        with pytest.raises(StorageUnavailable, match="no store for private files"):
            use()
    assert list(files.list()) == list(files.incomplete()) == []
    assert list(files.stores) == [""]

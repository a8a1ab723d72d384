"""What every file storage promises, asked of each backend."""

from __future__ import annotations

import gc
import hashlib
import io
import re
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid_storage.exceptions import FileNotAllowed
from pyramid_storage.interfaces import IFileStorage

from kinto_attachment.storage import FileStorage, NewFile, StorageUnavailable, StoredFile
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3.staged import MIN_PART_SIZE
from tests.storage.conftest import BASE_URL, Backend, UsedMeanwhile, random_bytes

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

NAMES_THAT_ESCAPE = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../outside.txt",
    "folder/../../outside.txt",
    "folder/../a.txt",
    "./a.txt",
    "folder//b.txt",
    "folder/",
    "/a.txt",
    "a.txt\0",
    "a.txt\0.png",
    "\ud800.txt",
]


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        MIN_PART_SIZE - 1,
        MIN_PART_SIZE,
        MIN_PART_SIZE + 1,
        2 * MIN_PART_SIZE,
    ],
)
@pytest.mark.parametrize("randomize", [True, False])
def test_what_was_written_is_what_is_read(backend: Backend, size: int, randomize: bool) -> None:
    content = random_bytes(size)
    staged = backend.storage.stage(NewFile("a.txt", randomize=randomize))
    for start in range(0, size, 1_000_003):
        staged.write(content[start : start + 1_000_003])
    name = staged.finish()
    assert backend.content(name) == content
    assert backend.everything() == [name]


def test_chunks_may_be_empty_and_of_any_bytes_like_kind(backend: Backend) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    for chunk in (b"", b"one ", b"", bytearray(b"two "), memoryview(b"three")):
        staged.write(chunk)
    assert backend.content(staged.finish()) == b"one two three"


def test_a_chunk_may_be_larger_than_a_part(backend: Backend) -> None:
    content = random_bytes(3 * MIN_PART_SIZE + 17)
    assert backend.content(backend.store(content)) == content


def test_the_expected_size_is_only_a_hint(backend: Backend) -> None:
    for size in (0, 10, 10**6, 10**12):
        assert backend.content(backend.store(b"content", size=size)) == b"content"


def test_a_random_name_is_a_uuid_and_the_extension_in_lower_case(backend: Backend) -> None:
    name = backend.store(b"", "My Holidays.JPG")
    assert re.fullmatch(rf"{UUID}\.jpg", name)


def test_without_randomize_the_file_keeps_its_name(backend: Backend) -> None:
    name = backend.store(b"x", "My Holidays.JPG", randomize=False)
    assert name == "My_Holidays.JPG"


def test_a_file_is_stored_in_its_folder(backend: Backend) -> None:
    for folder in ("blog", "blog/articles", "/news//2024/", "grüße"):
        name = backend.store(b"x", folder=folder, randomize=False)
        assert name == "/".join([*filter(None, folder.split("/")), "a.txt"])
        assert backend.content(name) == b"x"
        assert name in backend.everything()


def test_a_folder_outside_of_the_storage_is_refused(backend: Backend) -> None:
    for folder in ("..", "a/../b", ".", "a\0b"):
        with pytest.raises(ValueError, match="not a folder"):
            backend.storage.stage(NewFile("a.txt", folder=folder))
    assert backend.everything() == []


def test_odd_filenames_are_made_safe(backend: Backend) -> None:
    for filename, stored in [
        ("日本.txt", "file.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        (".htaccess", "htaccess"),
        ("été à la plage.png", "ete_a_la_plage.png"),
        ('a"b\r\nX-Evil: 1.txt', "ab_X-Evil_1.txt"),
        ("", "file"),
        ("x" * 300 + ".txt", "x" * 240 + ".txt"),
    ]:
        assert backend.store(b"x", filename, randomize=False) == stored
        assert backend.content(stored) == b"x"


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(backend: Backend) -> None:
    names = [backend.store(b"%d" % n, folder="f", randomize=False) for n in range(4)]
    assert names == ["f/a.txt", "f/a-1.txt", "f/a-2.txt", "f/a-3.txt"]
    assert [backend.content(name) for name in names] == [b"0", b"1", b"2", b"3"]
    assert backend.everything() == sorted(names)


def test_a_large_file_does_not_overwrite_either(backend: Backend) -> None:
    content = random_bytes(MIN_PART_SIZE + 1)
    backend.store(b"first", randomize=False)
    assert backend.store(content, randomize=False) == "a-1.txt"
    assert backend.store(content[::-1], randomize=False) == "a-2.txt"
    assert backend.content("a.txt") == b"first"
    assert backend.content("a-1.txt") == content
    assert backend.content("a-2.txt") == content[::-1]
    assert backend.everything() == ["a-1.txt", "a-2.txt", "a.txt"]


@pytest.mark.parametrize("size", [10, MIN_PART_SIZE + 1])
def test_a_name_that_was_used_does_not_come_back(backend: Backend, size: int) -> None:
    for is_used in (["f/a.txt", "f/a-1.txt"].__contains__, UsedMeanwhile("f/a.txt", "f/a-1.txt")):
        staged = backend.storage.stage(NewFile("a.txt", folder="f", randomize=False, size=size))
        staged.write(random_bytes(size))
        name = staged.finish(is_used)
        assert name == "f/a-2.txt"
        assert backend.content(name) == random_bytes(size)
        assert backend.everything() == [name]
        backend.storage.delete(name)


def test_the_answer_counts_that_is_given_when_the_file_has_the_name(backend: Backend) -> None:
    answered = []

    def is_used(name: str) -> bool:
        answered.append((name, backend.storage.exists(name)))
        return False

    staged = backend.storage.stage(NewFile("a.txt", randomize=False))
    assert staged.finish(is_used) == "a.txt"
    assert answered[-1] == ("a.txt", True)


def test_nobody_asks_whether_a_random_name_was_used(backend: Backend) -> None:
    is_used = UsedMeanwhile()
    name = backend.storage.stage(NewFile("a.txt")).finish(is_used)
    assert is_used.asked == []
    assert backend.everything() == [name]


@pytest.mark.parametrize("answers", [0, 1, 3])
@pytest.mark.parametrize("size", [10, MIN_PART_SIZE + 1])
def test_if_nobody_knows_whether_a_name_was_used_nothing_is_left(
    backend: Backend, size: int, answers: int
) -> None:
    is_used = UsedMeanwhile("a.txt")

    def fail_after(name: str) -> bool:
        if len(is_used.asked) == answers:
            raise ConnectionError("no database")
        return is_used(name)

    staged = backend.storage.stage(NewFile("a.txt", randomize=False))
    staged.write(random_bytes(size))
    with pytest.raises(ConnectionError, match="no database"):
        staged.finish(fail_after)
    assert backend.everything() == []


@pytest.mark.parametrize("used", ["before", "meanwhile"])
def test_an_exact_name_that_was_used_is_not_given(backend: Backend, used: str) -> None:
    is_used = UsedMeanwhile("a.txt") if used == "meanwhile" else ["a.txt"].__contains__
    staged = backend.storage.stage(NewFile("a.txt", exact_name=True))
    with pytest.raises(FileExistsError, match="a.txt"):
        staged.finish(is_used)
    assert backend.everything() == []


@pytest.mark.parametrize("size", [10, MIN_PART_SIZE + 1])
@pytest.mark.parametrize("name", [".kinto-attachment", "A b é.TXT", "f/.g/a.txt"])
def test_a_file_can_have_an_exact_name(backend: Backend, name: str, size: int) -> None:
    folder, _, filename = name.rpartition("/")
    content = random_bytes(size)
    assert backend.store(content, filename, folder=folder, exact_name=True) == name
    for randomize in (True, False):
        with pytest.raises(FileExistsError, match=re.escape(name)):
            backend.store(b"other", filename, folder=folder, randomize=randomize, exact_name=True)
    assert backend.content(name) == content
    assert backend.everything() == [name]


def test_an_exact_name_stays_in_the_storage_and_is_not_for_resumable_files(
    backend: Backend,
) -> None:
    for filename in ("../a.txt", "..", "a\0", ""):
        with pytest.raises(ValueError, match="not a folder"):
            backend.storage.stage(NewFile(filename, exact_name=True))
    with pytest.raises(TypeError, match="exact name"):
        backend.storage.create(NewFile("a.txt", exact_name=True))
    assert backend.everything() == []


@pytest.mark.limit_of("rclone", "names are paths", StorageUnavailable)
def test_a_file_and_a_folder_of_one_name_are_in_nobodys_way(backend: Backend) -> None:
    stored = {}
    for number, (folder, filename) in enumerate(
        [("b", "c"), ("b/c", "a.txt"), ("b", "c"), ("b/c/a.txt", "a.txt"), ("b/c", "a.txt")]
    ):
        content = b"%d" % number
        stored[backend.store(content, filename, folder=folder, randomize=False)] = content
    assert len(stored) == 5
    assert {name: backend.content(name) for name in backend.everything()} == stored


def test_a_long_name_that_is_taken_can_be_numbered(backend: Backend) -> None:
    filename = "x" * 300 + "." + "y" * 300
    first, second = (backend.store(b"", filename, randomize=False) for _ in range(2))
    assert second.endswith("-1." + "y" * 63)
    assert len(first) < len(second) <= 255


@pytest.mark.parametrize(("size", "count"), [(10, 8), (MIN_PART_SIZE + 10, 4)])
def test_files_that_finish_at_once_under_one_name_are_all_kept(
    backend: Backend, size: int, count: int
) -> None:
    contents = [b"%d" % number + bytes(size) for number in range(count)]
    barrier = threading.Barrier(count)

    def store(content: bytes) -> str:
        staged = backend.storage.stage(NewFile("a.txt", folder="f", randomize=False))
        staged.write(content)
        barrier.wait()
        return staged.finish()

    with ThreadPoolExecutor(count) as pool:
        names = list(pool.map(store, contents))
    assert len(set(names)) == count
    assert [backend.content(name) for name in names] == contents
    assert backend.everything() == sorted(names)


def test_nobody_sees_a_file_before_it_is_finished(backend: Backend) -> None:
    staged = backend.storage.stage(NewFile("a.txt", randomize=False))
    staged.write(b"content")
    assert not backend.storage.exists("a.txt")
    with pytest.raises(FileNotFoundError):
        backend.storage.read("a.txt")
    assert staged.finish() == "a.txt"
    assert backend.storage.exists("a.txt")


@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("size", [0, 10, 2 * MIN_PART_SIZE + 1])
def test_discard_leaves_nothing(backend: Backend, size: int, randomize: bool) -> None:
    staged = backend.storage.stage(NewFile("a.txt", folder="f", randomize=randomize))
    staged.write(random_bytes(size))
    staged.discard()
    assert backend.everything() == []


def test_discard_may_be_repeated(backend: Backend) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    staged.discard()
    staged.discard()
    assert backend.everything() == []


@pytest.mark.parametrize("size", [10, MIN_PART_SIZE + 1])
def test_discard_does_nothing_to_a_finished_file(backend: Backend, size: int) -> None:
    staged = backend.storage.stage(NewFile("a.txt", randomize=False))
    staged.write(random_bytes(size))
    name = staged.finish()
    staged.discard()
    assert backend.content(name) == random_bytes(size)


def test_a_discarded_file_takes_nothing_more(backend: Backend) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    staged.discard()
    with pytest.raises(ValueError, match="finished or discarded"):
        staged.write(b"x")
    with pytest.raises(ValueError, match="finished or discarded"):
        staged.finish()


def test_a_finished_file_takes_nothing_more(backend: Backend) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    name = staged.finish()
    with pytest.raises(ValueError, match="finished or discarded"):
        staged.write(b"x")
    with pytest.raises(ValueError, match="finished or discarded"):
        staged.finish()
    assert backend.content(name) == b""


@pytest.mark.parametrize("end", ["finish", "discard"])
@pytest.mark.parametrize("size", [10, 2 * MIN_PART_SIZE + 1])
def test_nothing_of_an_upload_waits_for_the_garbage_collector(
    backend: Backend, size: int, end: str
) -> None:
    gc.disable()
    try:
        staged = backend.storage.stage(NewFile("a.txt"))
        staged.write(random_bytes(size))
        getattr(staged, end)()
        gone = weakref.ref(staged)
        del staged
        assert gone() is None
    finally:
        gc.enable()


def test_a_range_is_read(backend: Backend) -> None:
    content = b"0123456789"
    name = backend.store(content)
    for start in (0, 3, 9, 10, 99):
        for stop in (None, 0, 3, 4, 10, 11, 100):
            expected = content[start:stop]
            assert b"".join(backend.storage.read(name, start, stop)) == expected, (start, stop)


def test_an_empty_file_has_only_empty_ranges(backend: Backend) -> None:
    name = backend.store(b"")
    for start, stop in [(0, None), (0, 5), (0, 0), (3, None), (3, 5)]:
        assert b"".join(backend.storage.read(name, start, stop)) == b""


@pytest.mark.parametrize(("start", "stop"), [(0, None), (7, 700_007)])
def test_a_file_is_read_in_chunks(backend: Backend, start: int, stop: int | None) -> None:
    content = random_bytes(1024 * 1024)
    chunks = list(backend.storage.read(backend.store(content), start, stop))
    assert b"".join(chunks) == content[start:stop]
    assert len(chunks) > 1
    assert all(0 < len(chunk) <= 256 * 1024 for chunk in chunks)


def test_reading_may_end_early(backend: Backend) -> None:
    name = backend.store(random_bytes(1024 * 1024))
    not_begun = backend.storage.read(name)
    not_begun.close()
    begun = backend.storage.read(name, 5)
    assert len(next(begun)) > 0
    begun.close()
    assert list(begun) == []


def test_a_missing_file_is_reported_when_read_is_called(storage: FileStorage) -> None:
    for start, stop in [(0, None), (3, 5), (0, 0)]:
        with pytest.raises(FileNotFoundError, match="missing.txt"):
            storage.read("folder/missing.txt", start, stop)


def test_a_file_of_this_machine_can_be_opened(backend: Backend) -> None:
    name = backend.store(b"0123456789")

    file = backend.storage.open_on_disk(name)

    if not isinstance(backend.storage, LocalStorage):
        assert file is None
        return
    assert file is not None
    with file:
        assert file.read() == b"0123456789"
    with pytest.raises(FileNotFoundError):
        backend.storage.open_on_disk("folder/missing.txt")


def test_stat_of_a_missing_file(storage: FileStorage) -> None:
    with pytest.raises(FileNotFoundError, match="missing.txt"):
        storage.stat("missing.txt")


def test_stat_tells_name_size_and_time(backend: Backend) -> None:
    name = backend.store(b"12345", folder="f")
    found = backend.storage.stat(name)
    assert (found.name, found.size) == (name, 5)
    assert found.modified.tzinfo is timezone.utc
    assert abs(datetime.now(timezone.utc) - found.modified) < timedelta(minutes=1)


def test_a_deleted_file_is_gone(backend: Backend) -> None:
    name = backend.store(b"x", folder="f")
    assert backend.storage.delete(name) is True
    assert not backend.storage.exists(name)
    assert backend.everything() == []


@pytest.mark.parametrize("count", [0, 1, 2, 250])
def test_many_deleted_files_are_gone(backend: Backend, count: int) -> None:
    kept = backend.store(b"kept")
    names = [backend.store(b"x") for _ in range(count)]

    assert list(backend.storage.delete_many(iter(names))) == [(name, None) for name in names]
    assert backend.everything() == [kept]


@pytest.mark.parametrize("count", [1, 3])
def test_what_cannot_be_deleted_is_told(backend: Backend, count: int, monkeypatch: Any) -> None:
    names = [backend.store(b"x") for _ in range(count)]
    delete = backend.storage.delete

    def fail_once(name: str) -> bool:
        if name == names[0]:
            raise StorageUnavailable("it is down")
        return delete(name)

    monkeypatch.setattr(backend.storage, "delete", fail_once)

    told = dict(backend.storage.delete_many(names))
    assert [str(told.pop(names[0]))] == ["it is down"]
    assert told == dict.fromkeys(names[1:])
    assert backend.everything() == [names[0]]


def test_a_file_can_be_replaced_and_its_predecessor_deleted(backend: Backend) -> None:
    old = backend.store(b"old", randomize=False)
    new = backend.store(b"new", randomize=False)
    backend.storage.delete(old)
    assert backend.content(new) == b"new"
    assert backend.everything() == [new]


def test_deleting_a_missing_file_is_no_error(backend: Backend) -> None:
    backend.storage.delete("missing.txt")
    backend.storage.delete("folder/missing.txt")


def test_an_empty_storage_lists_nothing(storage: FileStorage) -> None:
    assert list(storage.list()) == []


def test_list_names_every_file_once(backend: Backend) -> None:
    contents = {"a.txt": b"1", "f/a.txt": b"22", "f/g/a.txt": b"333", "z/a.txt": b""}
    for name, content in contents.items():
        folder = name.rpartition("/")[0]
        assert backend.store(content, folder=folder, randomize=False) == name
    listed = sorted(backend.storage.list(), key=lambda file: file.name)
    assert {file.name: file.size for file in listed} == {n: len(c) for n, c in contents.items()}
    assert all(isinstance(file, StoredFile) for file in listed)
    assert [file.modified.tzinfo for file in listed] == [timezone.utc] * 4


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", [".part", "a.txt", "main/deep/a.txt", "main/x.txt", "main2/b.txt"]),
        ("main", ["main/deep/a.txt", "main/x.txt", "main2/b.txt"]),
        ("main/", ["main/deep/a.txt", "main/x.txt"]),
        ("main/d", ["main/deep/a.txt"]),
        ("main/deep/a", ["main/deep/a.txt"]),
        ("main/x.txt/", []),
        (".", [".part"]),
        ("other/", []),
    ],
)
def test_list_can_keep_to_a_prefix(backend: Backend, prefix: str, expected: list[str]) -> None:
    for name in (".part", "a.txt", "main/x.txt", "main/deep/a.txt", "main2/b.txt"):
        backend.store(
            b"content", name.rpartition("/")[2], folder=name.rpartition("/")[0], exact_name=True
        )

    assert sorted(file.name for file in backend.storage.list(prefix=prefix)) == expected


def test_a_folder_is_not_a_file(backend: Backend) -> None:
    backend.store(b"x", folder="f/g")
    for name in ("f", "f/g"):
        assert not backend.storage.exists(name)
        with pytest.raises(FileNotFoundError):
            backend.storage.stat(name)
        with pytest.raises(FileNotFoundError):
            backend.storage.read(name)
        backend.storage.delete(name)
    assert len(backend.everything()) == 1


def test_there_is_nothing_below_a_file(backend: Backend) -> None:
    backend.store(b"x", randomize=False)
    assert not backend.storage.exists("a.txt/b.txt")
    with pytest.raises(FileNotFoundError):
        backend.storage.read("a.txt/b.txt")


def test_a_name_that_escapes_is_the_name_of_no_file(backend: Backend, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"not yours")
    stored = {backend.store(b"x", randomize=False), backend.store(b"x", "b.txt", folder="folder")}
    for name in NAMES_THAT_ESCAPE:
        assert backend.storage.exists(name) is False
        assert backend.storage.delete(name) is False
        with pytest.raises(FileNotFoundError):
            backend.storage.stat(name)
        with pytest.raises(FileNotFoundError):
            backend.storage.read(name)
        with pytest.raises(FileNotFoundError):
            backend.storage.read(name, 0, 0)
    assert outside.exists()
    assert set(backend.everything()) == stored


def test_a_backslash_is_an_ordinary_character(backend: Backend) -> None:
    assert not backend.storage.exists("f\\a.txt")
    name = backend.store(b"x", folder="f\\g", randomize=False)
    assert name == "f\\g/a.txt"
    assert backend.content(name) == b"x"


def test_the_url_is_the_base_url_and_the_quoted_name(storage: FileStorage) -> None:
    assert storage.url("f/a.txt") == f"{BASE_URL}f/a.txt"
    assert storage.url("f ü/50%?#.txt") == f"{BASE_URL}f%20%C3%BC/50%25%3F%23.txt"
    assert storage.url("//evil.example.org/a") == f"{BASE_URL}//evil.example.org/a"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [("", "f/a.txt"), ("/files/", "/files/f/a.txt"), ("http://x/files", "http://x/files/f/a.txt")],
)
def test_the_base_url_may_be_of_any_kind(backend: Backend, base_url: str, url: str) -> None:
    assert backend.make(base_url=base_url).url("f/a.txt") == url


def test_it_is_a_storage_of_pyramid_storage(storage: FileStorage) -> None:
    assert IFileStorage.providedBy(storage)


def test_kinto_can_wrap_every_method_to_measure_it(storage: FileStorage) -> None:
    calls = []

    def wrapped(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(method.__name__)
            return method(*args, **kwargs)

        return call

    for name in dir(storage):
        method = getattr(storage, name)
        if not name.startswith("_") and hasattr(method, "__self__"):
            setattr(storage, name, wrapped(method))
    staged = storage.stage(NewFile("a.txt"))
    staged.write(b"x")
    assert b"".join(storage.read(staged.finish())) == b"x"
    assert calls == ["stage", "read"]


def test_save_file_stores_from_the_start_of_the_file(backend: Backend) -> None:
    file = io.BytesIO(random_bytes(MIN_PART_SIZE + 1))
    file.seek(100)
    name = backend.storage.save_file(file, "a.txt")
    assert name == "a.txt"
    assert backend.content(name) == file.getvalue()
    assert backend.everything() == [name]


def test_save_file_takes_folder_and_randomize(backend: Backend) -> None:
    storage = backend.storage
    assert storage.save_file(io.BytesIO(b"x"), "a.txt", "f") == "f/a.txt"
    assert storage.save_file(io.BytesIO(b"x"), "a.txt", "f") == "f/a-1.txt"
    name = storage.save_file(io.BytesIO(b"x"), "a.txt", folder="f", randomize=True)
    assert re.fullmatch(rf"f/{UUID}\.txt", name)


def test_save_takes_a_field_of_a_form(backend: Backend) -> None:
    field = SimpleNamespace(file=io.BytesIO(b"content"), filename="C:\\Pictures\\a.png")
    assert backend.storage.save(field, folder="f") == "f/a.png"
    assert backend.content("f/a.png") == b"content"


def test_save_filename_takes_a_local_file(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "local.txt"
    path.write_bytes(b"content")
    assert backend.storage.save_filename(str(path), folder="f") == "f/local.txt"
    assert backend.content("f/local.txt") == b"content"


def test_save_refuses_an_extension_that_is_not_allowed(backend: Backend) -> None:
    for filename in ("a.exe", "a", "a.txt.EXE", "txt"):
        with pytest.raises(FileNotAllowed):
            backend.storage.save_file(io.BytesIO(b"x"), filename)
    with pytest.raises(FileNotAllowed):
        backend.storage.save_file(io.BytesIO(b"x"), "a.txt", extensions=("jpg",))
    assert backend.everything() == []
    assert backend.storage.save_file(io.BytesIO(b"x"), "A.TXT") == "A.TXT"
    assert backend.storage.save_file(io.BytesIO(b"x"), "a.exe", extensions=()) == "a.exe"


def test_save_refuses_an_option_that_it_does_not_know(backend: Backend) -> None:
    with pytest.raises(TypeError, match="replace"):
        backend.storage.save_file(io.BytesIO(b"x"), "a.txt", replace=True)
    assert backend.everything() == []


def test_a_file_that_cannot_be_read_leaves_nothing(backend: Backend) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError("gone")
            return super().read(size)

    with pytest.raises(OSError, match="gone"):
        backend.storage.save_file(Broken(random_bytes(2 * MIN_PART_SIZE)), "a.txt")
    assert backend.everything() == []


@pytest.mark.parametrize(
    ("extensions", "allowed", "refused"),
    [
        ("default", ["a.txt", "a.PNG", "b.csv"], ["a.exe", "a", ""]),
        ("images+md", ["a.png", "a.md"], ["a.txt"]),
        ("any", ["a.txt", "a", ""], []),
        (frozenset({"zip", "txt"}), ["a.zip", "a.TXT"], ["a.png"]),
        (("zip",), ["a.zip"], ["a.txt"]),
        (frozenset(), ["a.exe", "a"], []),
        ((), ["a.exe", "a"], []),
    ],
)
def test_extensions_are_allowed_by_the_setting(
    backend: Backend, extensions: Any, allowed: list[str], refused: list[str]
) -> None:
    own = backend.make(extensions=extensions)
    other = backend.storage
    for filename in allowed:
        assert own.filename_allowed(filename)
        assert other.filename_allowed(filename, extensions)
    for filename in refused:
        assert not own.filename_allowed(filename)
        assert not other.filename_allowed(filename, extensions)


def test_extension_and_field_can_be_asked_as_well(storage: Any) -> None:
    assert storage.extension_allowed(".txt")
    assert storage.extension_allowed("TXT")
    assert not storage.extension_allowed("exe")
    assert storage.file_allowed(SimpleNamespace(filename="a.txt"))
    assert not storage.file_allowed(SimpleNamespace(filename="a.exe"))


def test_an_interrupted_write_leaves_nothing(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    staged.write(random_bytes(MIN_PART_SIZE + 1))

    def interrupted(chunk: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(staged, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        staged.write(b"x")
    assert backend.everything() == []


def test_discard_never_raises(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    staged = backend.storage.stage(NewFile("a.txt"))
    discard = staged._discard

    def broken() -> None:
        discard()
        raise StorageUnavailable("the disk is on fire")

    monkeypatch.setattr(staged, "_discard", broken)
    staged.discard()
    assert "the disk is on fire" in caplog.text


@pytest.mark.parametrize("size", [10, MIN_PART_SIZE + 1])
@pytest.mark.parametrize("exact_name", [True, False])
def test_type_and_hash_are_told_where_the_storage_keeps_them(
    backend: Backend, size: int, exact_name: bool
) -> None:
    content = random_bytes(size)
    sha256 = hashlib.sha256(content).hexdigest()
    options = {"content_type": "text/x-test", "exact_name": exact_name}
    name = backend.store(content, "a.txt", sha256=sha256, **options)

    found = backend.storage.stat(name)

    is_local = isinstance(backend.storage, LocalStorage)
    told = (None, None) if is_local else ("text/x-test", sha256)
    assert (found.content_type, found.sha256) == told
    assert backend.storage.stat(backend.store(b"x")).sha256 is None


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, f"{'b' * 200}/" * 5 + "c" * 19])
def test_every_storage_has_names_of_255_bytes_and_1024_with_folders(
    backend: Backend, name: str
) -> None:
    folder, _, filename = name.rpartition("/")

    assert backend.storage.refuses(name) is None
    assert backend.store(b"x", filename, folder=folder, exact_name=True) == name
    assert backend.content(name) == b"x"


def test_a_name_that_is_too_long_for_any_storage_is_refused(backend: Backend) -> None:
    assert backend.storage.refuses(f"{'b' * 250}/" * 16 + "b" * 250) is not None


def test_only_some_disks_take_names_that_differ_in_case_for_one(backend: Backend) -> None:
    assert not backend.storage.folds_case()
    backend.store(b"x")
    assert not backend.storage.folds_case()

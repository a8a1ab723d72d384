"""What only the local disk can promise, or do wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from tests.storage.conftest import open_files
from tests.support.servers.privileges import as_a_user_like_others

UMASK = 0o027


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root, "https://files.example.org/")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``mounted("size=1m")`` is a file system in memory, with these options of mount(8)."""
    points = []

    def mount(options: str) -> Path:
        point = tmp_path / "mounted"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("this user cannot mount a file system")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", str(point)], check=True)


def store(storage: LocalStorage, content: bytes = b"content", **options: Any) -> str:
    staged = storage.stage(NewFile("a.txt", **{"randomize": False, **options}))
    staged.write(content)
    return staged.finish()


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def failing(error: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


def test_the_folder_is_made_when_the_first_file_comes(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet" / "there"
    storage = LocalStorage(root)
    assert not (tmp_path / "not").exists()
    assert list(storage.list()) == []
    assert not storage.exists("a.txt")
    store(storage, folder="f/g")
    assert everything(root) == ["f/g/a.txt"]


def test_a_relative_base_path_is_that_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage("files")
    monkeypatch.chdir("/")
    store(storage)
    assert (tmp_path / "files" / "a.txt").read_bytes() == b"content"
    assert storage.base_path == str(tmp_path / "files")
    assert storage.path("a.txt") == str(tmp_path / "files" / "a.txt")


def test_pyramid_storage_can_make_it_from_settings(tmp_path: Path) -> None:
    settings = {"storage.base_path": str(tmp_path), "storage.extensions": "images"}
    storage = LocalStorage.from_settings(settings, "storage.")
    assert storage.filename_allowed("a.png")
    assert not storage.filename_allowed("a.txt")


def test_an_acl_is_refused(storage: LocalStorage, root: Path) -> None:
    for start in (storage.stage, storage.create):
        with pytest.raises(TypeError, match="have no acl"):
            start(NewFile("a.txt", acl="private"))
    assert everything(root) == []


def test_the_mode_is_what_the_umask_leaves(storage: LocalStorage, root: Path) -> None:
    before = os.umask(UMASK)
    try:
        store(storage, folder="f")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "f" / "a.txt").stat().st_mode) == 0o666 & ~UMASK
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o777 & ~UMASK


def test_a_staged_file_is_hidden_in_the_base_path(storage: LocalStorage, root: Path) -> None:
    staged = storage.stage(NewFile("a.txt", folder="f", randomize=False))
    staged.write(b"content")
    (part,) = everything(root)
    assert part.startswith(".")
    assert part.endswith(".part")
    assert [(file.name, file.size) for file in storage.list()] == [(part, 7)]
    staged.finish()
    assert everything(root) == ["f/a.txt"]
    assert (root / "f" / "a.txt").stat().st_nlink == 1


def test_a_leftover_part_can_be_deleted(storage: LocalStorage, root: Path) -> None:
    root.mkdir()
    (root / ".x.part").write_bytes(b"left")
    assert storage.delete(".x.part")
    assert everything(root) == []


def test_no_descriptor_stays_open(storage: LocalStorage, root: Path) -> None:
    name = store(storage)
    storage.stage(NewFile("b.txt")).discard()
    list(storage.read(name))
    unfinished = storage.read(name)
    next(unfinished)
    unfinished.close()
    listing = storage.list()
    next(listing)
    listing.close()
    for missing in ("b.txt", "a.txt/b.txt"):
        with pytest.raises(FileNotFoundError):
            storage.read(missing)
    assert [path for path in open_files() if path.startswith(str(root))] == []


def test_file_and_folders_are_synced_before_finish_returns(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append((str(path.relative_to(root.parent)), sorted(everything(root))))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    staged = storage.stage(NewFile("a.txt", folder="f/g", randomize=False))
    assert [path for path, _ in synced] == ["."]  # "files" is new there
    (part,) = everything(root)
    staged.write(b"content")
    synced.clear()
    staged.finish()
    # The content before it has a name; the folders when it has.
    assert synced[0] == (f"files/{part}", [part])
    finished = [path for path, present in synced if present == ["f/g/a.txt"]]
    assert finished == ["files/f/g", "files/f", "files"]
    synced.clear()
    store(storage, folder="f/g")
    assert [path for path, _ in synced[1:]] == ["files/f/g", "files/f", "files"]


def test_a_random_name_is_synced_with_the_content(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows the name before ``finish()`` returns, and a journal commits once."""
    present = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        present.append((stat.S_ISDIR(os.fstat(fd).st_mode), everything(root)))
        fsync(fd)

    staged = storage.stage(NewFile("a.txt"))
    staged.write(b"content")
    monkeypatch.setattr(os, "fsync", spy)

    name = staged.finish()

    assert present == [(False, [name]), (True, [name])]


def test_a_random_name_that_cannot_be_synced_is_taken_back(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage(NewFile("a.txt"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            staged.finish()
    assert everything(root) == []
    assert [path for path in open_files() if path.startswith(str(root))] == []


def test_a_process_killed_by_the_kernel_leaves_a_part_and_nothing_else(root: Path) -> None:
    script = f"""
import os, signal
from kinto_attachment.storage import NewFile
from kinto_attachment.storage.local import LocalStorage
staged = LocalStorage({str(root)!r}).stage(NewFile("a.txt", folder="f", randomize=False))
staged.write(b"content")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (part,) = everything(root)
    assert part.endswith(".part")
    assert (root / part).read_bytes() == b"content"


def test_a_full_disk_is_reported_and_freed(mounted: Callable[[str], Path]) -> None:
    root = mounted("size=1m")
    storage = LocalStorage(root)
    staged = storage.stage(NewFile("a.txt", folder="f"))
    with pytest.raises(StorageUnavailable, match="No space left on device") as caught:
        staged.write(bytes(2 * 1024 * 1024))
    assert isinstance(caught.value.__cause__, OSError)
    assert everything(root) == []
    assert shutil.disk_usage(root).used == 0
    store(storage)


def test_a_write_that_fails_discards_the_file(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage(NewFile("a.txt"))
    staged.write(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.ENOSPC))
        with pytest.raises(StorageUnavailable, match="No space left on device"):
            staged.write(b"x")
    assert everything(root) == []
    with pytest.raises(ValueError, match="discarded"):
        staged.finish()


def test_a_write_that_takes_less_goes_on(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    staged = storage.stage(NewFile("a.txt", randomize=False))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
        staged.write(b"0123456789")
    staged.finish()
    assert (root / "a.txt").read_bytes() == b"0123456789"


def test_a_read_only_disk_is_reported(mounted: Callable[[str], Path]) -> None:
    root = mounted("ro")
    with pytest.raises(StorageUnavailable, match="Read-only file system"):
        LocalStorage(root).stage(NewFile("a.txt"))
    with pytest.raises(StorageUnavailable, match="Read-only file system"):
        LocalStorage(root / "folder").stage(NewFile("a.txt"))


def test_a_read_only_folder_is_reported(root: Path) -> None:
    root.mkdir(mode=0o555)
    program = (
        "import sys; from kinto_attachment.storage import NewFile;"
        "from kinto_attachment.storage.local import LocalStorage;"
        "LocalStorage(sys.argv[1]).stage(NewFile('a.txt'))"
    )
    command = [*as_a_user_like_others(), sys.executable, "-c", program, str(root)]

    done = subprocess.run(command, capture_output=True, text=True)

    *_, error = done.stderr.splitlines()
    assert "StorageUnavailable" in error
    assert "Permission denied" in error


def test_a_file_in_the_place_of_base_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        storage.stage(NewFile("a.txt"))
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        list(storage.list())
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        LocalStorage(tmp_path / "file" / "folder").stage(NewFile("a.txt"))


@pytest.mark.parametrize("way", ["staged", "resumable"])
def test_a_file_in_the_place_of_a_folder_gives_the_folder_a_number(
    storage: LocalStorage, root: Path, way: str
) -> None:
    def store_at(name: str, randomize: bool = False) -> str:
        folder, _, filename = name.rpartition("/")
        new = NewFile(filename, folder=folder, randomize=randomize)
        if way == "staged":
            return storage.stage(new).finish()
        state = storage.create(new)
        assert randomize is (state["name"] in storage.used_by(state))
        name = storage.resume(state).finish()
        if randomize:
            assert name == state["name"]
            assert storage.resume(state).finish() == name
        return name

    assert store_at("b/c2") == "b/c2"
    assert store_at("b/c2/a.txt") == "b/c2-1/a.txt"
    assert store_at("b/c2/a.txt") == "b/c2-1/a-1.txt"
    assert store_at("b/c2/d/a.txt") == "b/c2-1/d/a.txt"
    # A name that is a folder is taken.
    assert store_at("b/c2-1") == "b/c2-1-1"
    assert store_at("b/c2-1/d") == "b/c2-1/d-1"
    assert store_at("b/c2-1-1/a.txt") == "b/c2-1-1-1/a.txt"
    assert store_at("b/c2-1/a.txt/a.txt") == "b/c2-1/a.txt-1/a.txt"
    assert store_at("b/c2/a.txt", randomize=True).startswith("b/c2-1/")
    (root / "b" / "c2").unlink()
    assert store_at("b/c2/a.txt") == "b/c2/a.txt"


def test_a_long_folder_with_the_name_of_a_file_fits_with_its_number(
    storage: LocalStorage, root: Path
) -> None:
    root.mkdir()
    (root / ("x" * 255)).touch()
    assert store(storage, folder="x" * 255) == "x" * 244 + "-1/a.txt"


def test_a_file_that_comes_to_the_place_of_a_folder_is_reported_once(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def too_late(path: Path, *args: Any, **kwargs: Any) -> None:
        if path == root / "f":
            path.touch()
        mkdir(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", too_late)
        with pytest.raises(StorageUnavailable, match="Not a directory"):
            store(storage, folder="f")
    assert store(storage, folder="f") == "f-1/a.txt"


def test_a_name_that_is_too_long_is_reported(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(StorageUnavailable, match="File name too long"):
        store(storage, folder="x" * 256)
    assert everything(root) == []
    assert not storage.exists("x" * 256)
    with pytest.raises(FileNotFoundError):
        storage.read("x" * 256)


def test_a_disk_that_fails_when_folders_are_synced_leaves_nothing(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            failing(errno.EIO)()
        fsync(fd)

    root.mkdir()
    staged = storage.stage(NewFile("a.txt", randomize=False))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_folders)
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            staged.finish()
    assert everything(root) == []
    assert [path for path in open_files() if path.startswith(str(root))] == []


def test_a_disk_without_hard_links_is_reported(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage(NewFile("a.txt"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", failing(errno.EPERM))
        with pytest.raises(StorageUnavailable, match="Operation not permitted"):
            staged.finish()
    assert everything(root) == []


def test_what_cannot_be_removed_is_logged_and_the_rest_goes(
    storage: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    staged = storage.stage(NewFile("a.txt"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing(errno.EIO))
        staged.discard()
    assert "Input/output error" in caplog.text
    assert len(everything(root)) == 1
    assert [path for path in open_files() if path.startswith(str(root))] == []


def test_a_part_that_somebody_removed_fails_the_upload(storage: LocalStorage, root: Path) -> None:
    staged = storage.stage(NewFile("a.txt", folder="f"))
    for part in everything(root):
        (root / part).unlink()
    with pytest.raises(StorageUnavailable, match="No such file"):
        staged.finish()
    assert everything(root) == []


def test_an_empty_folder_that_somebody_removes_is_made_again(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(storage, folder="f")
    (root / "f" / "a.txt").unlink()
    hardlink_to = Path.hardlink_to
    removed = []

    def remove_first(path: Path, target: Path) -> None:
        if not removed:
            path.parent.rmdir()
            removed.append(path.parent)
        hardlink_to(path, target)

    monkeypatch.setattr(Path, "hardlink_to", remove_first)
    assert store(storage, folder="f") == "f/a.txt"
    assert removed == [root / "f"]
    assert everything(root) == ["f/a.txt"]


def test_a_folder_that_somebody_else_makes_at_once_is_used(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def make_before(path: Path, *args: Any, **kwargs: Any) -> None:
        mkdir(path)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", make_before)
    assert store(storage, folder="f/g") == "f/g/a.txt"


def test_files_that_go_while_they_are_listed_are_left_out(
    storage: LocalStorage, root: Path
) -> None:
    for folder in ("", "", "", "f", "g"):
        store(storage, folder=folder)
    listing = storage.list()
    first = next(listing)
    for path in list(root.rglob("*.txt")):
        if str(path.relative_to(root)) != first.name:
            path.unlink()
    for name in ("f", "g"):
        with contextlib.suppress(OSError):
            (root / name).rmdir()
    assert list(listing) == []


def test_a_disk_that_fails_is_not_an_empty_one(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(storage)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", failing(errno.EIO))
        patch.setattr(os, "open", failing(errno.EIO))
        patch.setattr(os, "scandir", failing(errno.EIO))
        for use in (
            lambda: storage.exists("a.txt"),
            lambda: storage.stat("a.txt"),
            lambda: storage.delete("a.txt"),
            lambda: storage.read("a.txt"),
            lambda: list(storage.list()),
        ):
            with pytest.raises(StorageUnavailable, match="Input/output error"):
                use()


LIST_AS_ANOTHER_USER = """
import sys
from kinto_attachment.storage.local import LocalStorage
_, root, *told = sys.argv
unreadable = lambda name, error: print("unreadable", name, error)
for file in LocalStorage(root).list(*[unreadable] * len(told)):
    print(file.name)
"""


def listed(root: Path, *told: str) -> subprocess.CompletedProcess[str]:
    """What a user like others lists; with an argument, told of folders that may not be read."""
    command = [sys.executable, "-c", LIST_AS_ANOTHER_USER, str(root), *told]
    return subprocess.run([*as_a_user_like_others(), *command], capture_output=True, text=True)


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_that_may_not_be_read_is_passed_over_and_told(
    storage: LocalStorage, root: Path, mode: int
) -> None:
    for folder in ("", "f", "f/closed", "f/closed/below", "lost+found", "z"):
        store(storage, folder=folder)
    for folder in ("f/closed", "lost+found"):
        (root / folder).chmod(mode)
    found = listed(root, "told")
    told = {line for line in found.stdout.splitlines() if line.startswith("unreadable")}
    assert set(found.stdout.splitlines()) - told == {"a.txt", "f/a.txt", "z/a.txt"}
    for folder in ("f/closed", "lost+found"):
        (line,) = (line for line in told if line.startswith(f"unreadable {folder} "))
        assert line.endswith(f"cannot list {root / folder}: Permission denied")
    # A folder that may be listed but not entered is told with those below it.
    assert len(told) == (2 if mode == 0 else 3)

    assert "StorageUnavailable: cannot list" in listed(root).stderr


def test_a_disk_that_fails_below_a_folder_is_not_passed_over(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("f", "g"):
        store(storage, folder=folder)
    scandir = os.scandir

    def fail_in_f(error: int) -> Callable[[str], Any]:
        return lambda path: failing(error)() if path.endswith("/f") else scandir(path)

    told = []
    monkeypatch.setattr(os, "scandir", fail_in_f(errno.EACCES))
    assert [file.name for file in storage.list(lambda *args: told.append(args))] == ["g/a.txt"]
    ((folder, error),) = told
    assert folder == "f"
    assert isinstance(error, StorageUnavailable)
    assert isinstance(error.__cause__, PermissionError)
    with pytest.raises(StorageUnavailable, match="Permission denied"):
        list(storage.list())
    monkeypatch.setattr(os, "scandir", fail_in_f(errno.EIO))
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        list(storage.list(lambda *args: told.append(args)))


def test_a_base_path_that_may_not_be_read_is_reported(storage: LocalStorage, root: Path) -> None:
    store(storage)
    root.chmod(0)
    assert f"StorageUnavailable: cannot list {root}" in listed(root, "told").stderr


def test_symbolic_links_are_not_files_of_the_storage(
    storage: LocalStorage, root: Path, tmp_path: Path
) -> None:
    store(storage)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_bytes(b"secret")
    (root / "link.txt").symlink_to(secret / "key.txt")
    (root / "dangling.txt").symlink_to(secret / "missing.txt")
    (root / "folder").symlink_to(secret)
    (root / "loop").symlink_to(root / "loop")
    assert [file.name for file in storage.list()] == ["a.txt"]
    for name in ("link.txt", "dangling.txt", "folder", "loop", "loop/a.txt"):
        assert not storage.exists(name)
        assert storage.delete(name) is False
        with pytest.raises(FileNotFoundError):
            storage.read(name)
    assert (secret / "key.txt").read_bytes() == b"secret"


def test_a_file_that_took_the_name_meanwhile_is_not_taken_for_the_one_to_give_back(
    storage: LocalStorage, root: Path
) -> None:
    def is_used(name: str) -> bool:
        taken = (root / name).exists()
        if taken:
            (root / name).unlink()
            (root / name).write_bytes(b"other")
        return taken

    staged = storage.stage(NewFile("a.txt", randomize=False))
    assert staged.finish(lambda name: name == "a.txt" and is_used(name)) == "a-1.txt"
    assert (root / "a.txt").read_bytes() == b"other"


def test_a_dangling_link_takes_a_name_all_the_same(
    storage: LocalStorage, root: Path, tmp_path: Path
) -> None:
    root.mkdir()
    (root / "a.txt").symlink_to(tmp_path / "outside.txt")
    assert store(storage) == "a-1.txt"
    assert not (tmp_path / "outside.txt").exists()


def test_a_pipe_is_not_a_file_and_nobody_waits_for_it(storage: LocalStorage, root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    begun = time.monotonic()
    assert not storage.exists("pipe")
    with pytest.raises(FileNotFoundError):
        storage.read("pipe")
    assert list(storage.list()) == []
    assert time.monotonic() - begun < 1


def test_a_name_that_is_not_utf_8_can_be_listed_and_deleted(
    storage: LocalStorage, root: Path
) -> None:
    root.mkdir()
    path = os.path.join(os.fsencode(root), b"\xff.txt")  # noqa: PTH118 - bytes
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"old")
    (found,) = storage.list()
    assert b"".join(storage.read(found.name)) == b"old"
    assert storage.delete(found.name) is True
    assert list(storage.list()) == []


def test_two_processes_keep_apart(root: Path) -> None:
    script = f"""
from kinto_attachment.storage import NewFile
from kinto_attachment.storage.local import LocalStorage
storage = LocalStorage({str(root)!r})
for _ in range(50):
    staged = storage.stage(NewFile("a.txt", folder="f", randomize=False))
    staged.write(b"x")
    staged.finish()
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(everything(root)) == 100


def test_a_segment_of_more_than_255_bytes_is_refused(storage: LocalStorage) -> None:
    for name in ("a" * 256, "é" * 128, f"{'a' * 256}/b"):
        assert storage.refuses(name) == "has more than 255 bytes between two slashes"


def test_a_path_that_is_too_long_for_the_system_is_refused(
    storage: LocalStorage, root: Path
) -> None:
    longest = 4095 - len(f"{root}/")
    name = (f"{'a' * 99}/" * 50)[:longest].removesuffix("/").ljust(longest, "b")

    assert storage.refuses(name) is None
    assert storage.refuses(f"{name}b") == "makes a path of more than 4095 bytes"


@pytest.mark.parametrize("folder", ["files", "."])
def test_a_disk_that_takes_names_in_another_case_for_the_same_is_known(
    storage: LocalStorage, root: Path, folder: str
) -> None:
    """Two hard links look like one such name. What is around a missing folder tells as well."""
    assert not storage.folds_case()
    place = root.parent / folder
    place.mkdir(exist_ok=True)
    (place / "ab").touch()
    (place / "AB").hardlink_to(place / "ab")

    assert storage.folds_case()


def test_names_without_letters_say_nothing_of_case(storage: LocalStorage, root: Path) -> None:
    root.mkdir()
    (root / "12.34").touch()
    (root.parent / "FILES").hardlink_to(root / "12.34")
    (root.parent / "files_").touch()

    assert not storage.folds_case()


def test_the_case_of_names_is_not_looked_up_where_nothing_may_be_read(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", refuse)

    assert not storage.folds_case()


def test_the_check_compares_what_it_reads(storage, monkeypatch):
    monkeypatch.setattr(storage, "read", lambda name: iter([b"other"]))

    with pytest.raises(StorageUnavailable, match="has other bytes than were stored"):
        storage.check()

    assert list(storage.list()) == []

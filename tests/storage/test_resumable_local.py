"""Files that several requests send, on the local disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kinto_attachment.storage import NewFile, StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.local.hidden_file import HiddenFile
from tests.storage.conftest import open_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def send(storage: LocalStorage, content: bytes, **options: Any) -> Any:
    """Start a file, and let one request send ``content``. Returns the state."""
    state = storage.create(NewFile("a.txt", **options))
    file = storage.resume(state)
    file.write(content)
    state = file.checkpoint()
    file.close()
    return state


def finish_and_die(storage: LocalStorage, state: Any, content: bytes = b"") -> None:
    """Leave what a process leaves that is killed after the file got its visible name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HiddenFile, "remove", lambda file: None)
        file = storage.resume(state)
        file.write(content)
        file.finish()


def test_the_file_is_hidden_in_the_base_path_from_the_start(
    storage: LocalStorage, root: Path
) -> None:
    state = storage.create(NewFile("a.txt", folder="f"))
    (part,) = everything(root)
    assert part.startswith(".")
    assert part.endswith(".part")
    assert storage.used_by(state) == {part, state["name"]}


def test_a_checkpoint_is_synced_and_the_new_file_is_durable(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append((path.name, path.stat().st_size if path.is_file() else None))
        fsync(fd)

    root.mkdir()
    monkeypatch.setattr(os, "fsync", spy)
    state = storage.create(NewFile("a.txt"))
    assert synced == [("files", None)]
    file = storage.resume(state)
    file.write(b"content")
    file.checkpoint()
    (part,) = everything(root)
    assert synced[1:] == [(part, 7)]
    file.close()


def test_the_visible_name_is_durable_before_the_hidden_one_goes(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = send(storage, b"content", folder="f", randomize=False)
    (part,) = everything(root)
    synced = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        synced.append((Path(f"/proc/self/fd/{fd}").readlink().name, everything(root)))
        fsync(fd)

    file = storage.resume(state)
    monkeypatch.setattr(os, "fsync", spy)
    assert file.finish() == "f/a.txt"
    both = [part, "f/a.txt"]
    assert synced == [(part, [part]), ("files", [part]), ("f", both), ("files", both)]
    assert everything(root) == ["f/a.txt"]


def test_a_name_that_a_killed_process_has_given_is_kept(storage: LocalStorage, root: Path) -> None:
    for randomize in (True, False):
        for _ in range(2):
            state = send(storage, b"content", folder="f", randomize=randomize)
            finish_and_die(storage, state)
            before = {name for name in everything(root) if not name.startswith(".")}
            name = storage.resume(state).finish()
            assert set(everything(root)) == before
            assert (root / name).stat().st_nlink == 1
    assert {"f/a.txt", "f/a-1.txt"} <= before


def test_a_file_in_the_root_is_not_taken_for_its_own_hidden_name(
    storage: LocalStorage, root: Path
) -> None:
    first = send(storage, b"first", randomize=False)
    storage.resume(first).finish()
    state = send(storage, b"second", randomize=False)
    finish_and_die(storage, state)
    assert storage.resume(state).finish() == "a-1.txt"
    assert everything(root) == ["a-1.txt", "a.txt"]


def test_a_file_that_takes_more_bytes_is_seen_by_nobody(storage: LocalStorage, root: Path) -> None:
    state = send(storage, b"one ", randomize=False)
    finish_and_die(storage, state)
    assert "a.txt" in everything(root)
    file = storage.resume(state)
    file.write(b"two")
    assert "a.txt" not in everything(root)
    assert file.finish() == "a.txt"
    assert (root / "a.txt").read_bytes() == b"one two"


def test_a_file_that_is_cut_off_is_seen_by_nobody(storage: LocalStorage, root: Path) -> None:
    state = send(storage, b"one ", randomize=False)
    finish_and_die(storage, state, b"not saved")
    file = storage.resume(state)
    assert "a.txt" not in everything(root)
    file.write(b"two")
    assert file.finish() == "a.txt"
    assert (root / "a.txt").read_bytes() == b"one two"
    assert everything(root) == ["a.txt"]


def test_a_finished_file_of_another_length_is_not_the_same(
    storage: LocalStorage, root: Path
) -> None:
    state = send(storage, b"one ")
    file = storage.resume(state)
    file.write(b"two")
    name = file.finish()
    with pytest.raises(FileNotFoundError):
        storage.resume(state)
    assert (root / name).read_bytes() == b"one two"


def test_a_link_that_a_backup_has_made_is_not_the_visible_name(
    storage: LocalStorage, root: Path, tmp_path: Path
) -> None:
    for folder in ("", "f"):
        state = send(storage, b"content", folder=folder, randomize=False)
        (part,) = (name for name in everything(root) if name.startswith("."))
        (tmp_path / f"backup{folder}").hardlink_to(root / part)
        name = storage.resume(state).finish()
        assert (root / name).read_bytes() == b"content"
        assert not (root / part).exists()


def test_a_hidden_file_that_is_too_short_is_gone(storage: LocalStorage, root: Path) -> None:
    state = send(storage, b"content")
    (part,) = everything(root)
    os.truncate(root / part, 3)
    with pytest.raises(FileNotFoundError):
        storage.resume(state)


def test_a_file_that_was_removed_meanwhile_is_not_finished(
    storage: LocalStorage, root: Path
) -> None:
    for randomize in (True, False):
        state = send(storage, b"content", randomize=randomize)
        file = storage.resume(state)
        storage.cancel(state)
        with pytest.raises(FileNotFoundError):
            file.finish()
    assert everything(root) == []


def test_a_name_that_is_too_long_is_reported(storage: LocalStorage, root: Path) -> None:
    state = send(storage, b"content", folder="x" * 256)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="File name too long"):
            storage.resume(state).finish()
    storage.cancel(state)
    assert everything(root) == []


def test_what_cannot_be_removed_does_not_fail_a_file_that_is_stored(
    storage: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    state = send(storage, b"content", randomize=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        assert storage.resume(state).finish() == "a.txt"
    assert "Input/output error" in caplog.text
    storage.cancel(state)
    assert everything(root) == ["a.txt"]


def test_no_descriptor_stays_open(storage: LocalStorage, root: Path) -> None:
    state = send(storage, b"content")
    storage.resume(state).close()
    storage.resume(state).finish()
    storage.resume(send(storage, b"content")).discard()
    with pytest.raises(FileNotFoundError):
        storage.resume({**state, "offset": 99})
    assert [path for path in open_files() if path.startswith(str(root))] == []

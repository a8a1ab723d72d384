"""``kinto-attachment copy`` beside servers, and what can go wrong on the way."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest
from kinto.core.storage.exceptions import BackendError

from kinto_attachment.attachments.site import MARKER
from kinto_attachment.commands import transfer
from kinto_attachment.commands.plan import Plan
from kinto_attachment.storage import FileStorage, StorageUnavailable
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.local.staged import LocalStagedFile
from tests.support.orphans import names
from tests.support.records import Record
from tests.support.servers import forked

MIB = 1024 * 1024
to_all = pytest.mark.parametrize("to", ["local", "seaweedfs", "gcs"])


@pytest.fixture
def attached(record):
    record.attach(b"content")
    record.other().attach(b"other")
    return record


@pytest.fixture
def switched(attached, make_app, target):
    """The same record, at a server that uses the target."""
    return Record(make_app(attachment=target.settings), target.stored, attached.uri)


def name_of(record):
    return record.data["attachment"]["location"].rpartition("/")[2]


@pytest.fixture
def before(monkeypatch):
    """``before(LocalStorage, "stage", step)``: the step is taken before the first call."""

    def register(of_class, method, step):
        call = getattr(of_class, method)
        left = [step]

        def called(*args, **options):
            if left:
                left.pop()()
            return call(*args, **options)

        monkeypatch.setattr(of_class, method, called)

    return register


# Between two runs.


@to_all
def test_a_second_run_does_not_bring_back_what_was_deleted(attached, switched, target, copy):
    copy()
    name = name_of(attached)
    switched.detach()

    result = copy()

    assert result.status == 0
    assert result.counts["files copied"] == 0
    assert name not in target.names()
    assert name in attached.files()


@to_all
def test_a_second_run_copies_what_was_uploaded_meanwhile(attached, target, copy):
    copy()
    attached.other("new").attach(b"new")

    result = copy()

    assert result.status == 0
    assert result.counts["files copied"] == 1
    assert target.names() == attached.files()


def test_what_was_uploaded_to_the_target_is_not_missing(attached, switched, target, copy):
    copy()
    switched.other("new").attach(b"new")

    result = copy()

    assert (result.status, result.findings) == (0, [])
    assert result.counts["files that only the target has"] == 1
    assert copy("--dry-run").counts["files there already"] == 3


def test_what_was_deleted_before_the_switch_is_an_orphan_of_the_target(
    attached, target, copy, command
):
    copy()
    name = name_of(attached)
    attached.detach()

    assert copy().status == 0
    arguments = ("gc", "--delete", "--older-than=0s", "--json")
    assert names(command(*arguments, attachment=target.settings)) == [name]


# During one.


@to_all
def test_what_is_deleted_before_its_turn_is_not_copied(attached, target, copy, before):
    name = name_of(attached)
    before(Plan, "count_accepted", attached.detach)

    result = copy()

    assert result.status == 0
    assert result.counts["files deleted meanwhile"] == 1
    assert target.names() == attached.files()
    assert name not in target.names()


@to_all
def test_what_is_deleted_while_it_is_copied_is_given_back(
    attached, switched, target, copy, monkeypatch
):
    """The server deletes it where it is not yet."""
    name = name_of(attached)
    read = FileStorage.read

    def read_slowly(self, wanted, *args):
        yield from read(self, wanted, *args)
        if wanted == name:
            switched.detach()

    monkeypatch.setattr(FileStorage, "read", read_slowly)

    result = copy()

    assert result.status == 0
    assert result.counts["files deleted meanwhile"] == 1
    assert len(target.names()) == 1
    assert name not in target.names()


@to_all
def test_what_is_deleted_when_it_has_its_name_is_given_back(
    attached, switched, target, copy, monkeypatch
):
    name = name_of(attached)
    look_up, looked = transfer.look_up, []

    def look(site, settings, wanted):
        known = look_up(site, settings, wanted)
        looked.append(wanted)
        # Now it becomes visible.
        if looked.count(name) == 2 and wanted == name:
            switched.detach()
        return known

    monkeypatch.setattr(transfer, "look_up", look)

    result = copy()

    assert looked.count(name) == 4
    assert result.counts["files deleted meanwhile"] == 1
    assert name not in target.names()


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("detach", [True, False])
def test_a_file_that_vanishes_is_missing_if_a_record_references_it(
    attached, where, target, copy, monkeypatch, detach, seaweedfs
):
    name = name_of(attached)
    read = FileStorage.read

    def lose(self, wanted, *args):
        if wanted == name:
            if detach:
                attached.detach()
            elif where == "local":
                (attached.folder / name).unlink()
            else:
                seaweedfs.admin.delete_object(Bucket=seaweedfs.bucket, Key=name)
        return read(self, wanted, *args)

    monkeypatch.setattr(FileStorage, "read", lose)

    result = copy()

    assert result.status == (0 if detach else 1)
    counts = result.counts
    assert (counts["files deleted meanwhile"], counts["files missing"]) == (detach, not detach)
    assert target.names() == attached.files()


@pytest.mark.parametrize(
    ("content", "title"), [(b"content", "files there already"), (b"c0ntent", "files that differ")]
)
def test_another_process_may_be_faster(attached, target, copy, monkeypatch, content, title):
    name = name_of(attached)
    finish = LocalStagedFile._finish

    def finish_later(self, is_used):
        if self._new.filename == name:
            (target.stored.path / name).write_bytes(content)
        return finish(self, is_used)

    monkeypatch.setattr(LocalStagedFile, "_finish", finish_later)

    result = copy()

    assert result.counts[title] == 1
    assert len(target.names()) == 2
    assert target.stored.read(name) == content


# What goes wrong.

KILLED = """
import os, signal, sys, time
from pathlib import Path
from kinto_attachment.commands import main
from kinto_attachment.storage.local.staged import LocalStagedFile

target, ini, other = sys.argv[1:]
write = LocalStagedFile._write

def write_some(self, chunk):
    write(self, chunk)
    if self._new.filename.endswith(".bin"):
        while not list(Path(target).glob("*.txt")) or len(list(Path(target).glob(".*.part"))) > 1:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

LocalStagedFile._write = write_some
main(["--ini", ini, "copy", "--to-ini", other])
"""


def test_a_run_after_a_killed_one_copies_the_rest(attached, target, make_ini, copy, command):
    attached.other("large").attach(bytes(MIB), "large.bin")
    attached.other().detach()
    arguments = [str(target.stored.path), str(make_ini()), str(target.ini)]

    assert forked.run_code(KILLED, *arguments) == -signal.SIGKILL
    [part, first] = target.names()
    assert (part[0], first) == (".", name_of(attached))
    result = copy()
    assert result.status == 0
    assert (result.counts["files copied"], result.counts["files there already"]) == (1, 1)
    assert target.names() == [part, *attached.files()]
    arguments = ("gc", "--delete", "--older-than=0s", "--json")
    assert names(command(*arguments, attachment=target.settings)) == [part]


def fail(*args, **options):
    raise StorageUnavailable("cannot write: the disk is full")


def test_a_file_that_fails_does_not_keep_the_others(attached, target, copy, monkeypatch):
    name = name_of(attached)
    read = FileStorage.read
    monkeypatch.setattr(
        FileStorage,
        "read",
        lambda self, wanted, *args: (fail if wanted == name else read)(self, wanted, *args),
    )

    result = copy()

    assert result.status == 1
    [finding] = result.findings
    assert (finding["name"], finding["problem"]) == (name, "failed")
    assert result.counts["files that failed"] == result.counts["files copied"] == 1
    assert len(target.names()) == 1


def test_a_storage_that_is_down_is_not_asked_for_ever(record, target, copy, monkeypatch):
    for number in range(53):
        record.other(f"r{number}").attach(b"x")
    write = LocalStagedFile._write

    def fail_but_for_the_marker(self, chunk):
        (write if self._new.filename == MARKER else fail)(self, chunk)

    monkeypatch.setattr(LocalStagedFile, "_write", fail_but_for_the_marker)

    result = copy()

    assert result.status == 1
    assert result.counts["files that failed"] == 50
    assert result.counts["files not tried"] == 3
    assert result.findings[-1] == {"problem": "untried", "left": 3}


def test_a_database_that_goes_away_stops_what_is_being_copied(attached, target, copy, monkeypatch):
    name = name_of(attached)
    begun, ended = threading.Event(), threading.Event()
    look_up = transfer.look_up

    def read_without_end(self, wanted, *args):
        try:
            while True:
                begun.set()
                yield b"x"
        finally:
            ended.set()

    def look(site, settings, wanted):
        if wanted == name:
            begun.wait(10)
            raise BackendError(message="the database is gone")
        return look_up(site, settings, wanted)

    read = FileStorage.read
    monkeypatch.setattr(
        FileStorage,
        "read",
        lambda self, wanted, *args: (
            read(self, wanted, *args) if wanted[0] == "." else read_without_end(self, wanted)
        ),
    )
    monkeypatch.setattr(transfer, "look_up", look)

    result = copy()

    assert result.status == 2
    assert "the database is gone" in result.errors
    assert ended.is_set()
    assert target.names() == []


@pytest.fixture
def closed(make_record, monkeypatch):
    """A record whose file is in a folder that may be entered, but not read."""
    record = make_record(attachment={"folder": "{collection_id}"})
    record.attach(b"content")
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(record.folder / "c"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return record


def test_a_file_that_cannot_be_listed_is_copied(closed, target, copy):
    result = copy()

    assert (result.status, result.counts["files copied"]) == (0, 1)
    assert result.findings[0]["problem"] == "unreadable folder"
    assert list(target.contents().values()) == [b"content"]


def test_a_file_that_can_be_neither_listed_nor_found_fails(closed, target, copy, monkeypatch):
    monkeypatch.setattr(LocalStorage, "stat", fail)

    result = copy()

    assert (result.status, result.counts["files that failed"]) == (1, 1)
    assert "the disk is full" in result.output


def test_a_progress_bar_is_for_terminals_only(attached, target, make_ini):
    arguments = ["--ini", str(make_ini()), "copy", "--to-ini", str(target.ini)]
    command = [sys.executable, "-m", "kinto_attachment.commands", *arguments]
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)

    assert process.returncode == 0
    assert b"files:   0%|" in seen
    assert b"| 0/2 [" in seen
    assert b"files copied" in seen
    done = forked.run(command[1:])
    assert done.returncode == 0
    assert "%|" not in done.stdout + done.stderr

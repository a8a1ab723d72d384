"""``kinto-attachment copy``: names that the target cannot have."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import pytest

from kinto_attachment.commands.inventory import KnownFile
from kinto_attachment.commands.plan import make_plan
from kinto_attachment.commands.target import Target
from kinto_attachment.commands.transfer import Transfer
from kinto_attachment.storage import FileStorage
from kinto_attachment.storage.local import LocalStorage

BASE = "https://files.example.org/"


@pytest.fixture
def on_s3(record):
    """``on_s3("a/b", ...)``: objects that another program has stored, with records for them."""

    def put(*keys):
        for number, key in enumerate(keys):
            record.stored.put(key, key.encode())
            record.other(f"r{number}").create(attachment={"location": f"{BASE}{key}"})

    return put


def refused(result):
    return {
        finding["name"]: finding["reason"]
        for finding in result.findings
        if finding.get("problem") == "name"
    }


# SeaweedFS has no such names itself.
from_s3 = pytest.mark.parametrize(("where", "to"), [("moto", "local")])


@from_s3
def test_a_disk_cannot_have_long_names_nor_a_file_with_the_name_of_a_folder(on_s3, target, copy):
    long = f"x/{'n' * 256}"
    on_s3(long, "a", "a/b", "a/b/c", "a-1/b", "b/c", "b.txt")

    told = copy("--dry-run")
    result = copy()

    assert told.status == result.status == 1
    reason = "is in a folder with the name of the file"
    assert (
        refused(told)
        == refused(result)
        == {
            long: "has more than 255 bytes between two slashes",
            "a/b": f"{reason} a",
            "a/b/c": f"{reason} a/b",
        }
    )
    assert result.counts["names that the target cannot have"] == 3
    assert target.names() == ["a", "a-1/b", "b.txt", "b/c"]


@from_s3
def test_a_disk_may_take_names_in_another_case_for_the_same(on_s3, target, copy, monkeypatch):
    monkeypatch.setattr(LocalStorage, "folds_case", lambda self: True)
    on_s3("A.txt", "a.txt", "a.TXT", "B/x", "b/y", "b/X", "c", "C/é", "e\u0301", "\xe9")

    result = copy()

    assert result.status == 1
    case = "in case only, and the target makes no difference there"
    assert refused(result) == {
        "a.txt": f"differs from A.txt {case}",
        "a.TXT": f"differs from A.txt {case}",
        "b/X": f"differs from B/x {case}",
        "C/é": "is in a folder with the name of the file c",
        "\xe9": f"differs from e\u0301 {case}",
    }
    assert target.names() == ["A.txt", "B/x", "b/y", "c", "e\u0301"]


@pytest.mark.parametrize("to", ["seaweedfs"])
def test_s3_cannot_have_names_of_more_than_1024_bytes(record, target, copy):
    long, short = f"{'d' * 200}/" * 5 + "n" * 20, f"{'d' * 200}/" * 5 + "n" * 19
    for name in (long, short):
        (record.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (record.folder / name).write_bytes(b"x")
        record.other(f"r{len(name)}").create(attachment={"location": f"{BASE}{name}"})

    result = copy()

    assert refused(result) == {long: "has more than 1024 bytes"}
    assert target.names() == [short]


@pytest.mark.parametrize("to", ["gcs"])
def test_google_cannot_have_names_with_a_line_break(record, target, copy):
    for number, name in enumerate(["a\nb", "a\rb", "a b"]):
        record.attach(b"x")  # which makes the folder
        (record.folder / name).write_bytes(b"x")
        record.other(f"r{number}").create(attachment={"location": f"{BASE}{name}"})
    record.detach()

    result = copy()

    assert refused(result) == {"a\nb": "has a line break", "a\rb": "has a line break"}
    assert target.names() == ["a b"]


@from_s3
def test_the_names_are_listed_before_the_first_byte_is_read(
    on_s3, target, command, capfd, monkeypatch
):
    on_s3("a", "a/b")
    read, told = FileStorage.read, {}

    def remember(self, name, *args):
        told.setdefault(name, capfd.readouterr().out)
        return read(self, name, *args)

    monkeypatch.setattr(FileStorage, "read", remember)

    assert command("copy", "--to-ini", str(target.ini)).status == 1

    assert "a/b cannot be stored at the target: it is in a folder" in told["a"]


@from_s3
def test_a_name_that_something_else_has_at_the_target_fails_alone(on_s3, target, copy):
    on_s3("a", "b/c", "d")
    (target.stored.path / "a").mkdir(parents=True)
    (target.stored.path / "b").touch()

    result = copy()

    assert result.status == 1
    failed = {each["name"]: each["problem"] for each in result.findings if "problem" in each}
    assert failed == {"a": "different", "b/c": "failed"}
    assert target.names() == ["b", "d"]


@pytest.mark.parametrize(("where", "to"), [("moto", "seaweedfs")])
def test_a_server_may_refuse_more(on_s3, target, copy):
    # No name that other tests have given to a folder: SeaweedFS keeps those that are empty.
    on_s3("n" * 256, "beside.txt")

    result = copy()

    assert result.status == 1
    assert [each["name"] for each in result.findings if "problem" in each] == ["n" * 256]
    assert result.counts["files that failed"] == 1
    assert target.names() == ["beside.txt"]


def test_the_plan_takes_constant_memory():
    files = (KnownFile(f"f{number % 100}/{number}.txt", number) for number in range(20_000))
    tracemalloc.start()
    try:
        with make_plan(files, LocalStorage("/nowhere")) as plan:
            assert sum(1 for _ in plan.accepted()) == plan.count_accepted() == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 500_000


def test_the_transfer_runs_ahead_by_a_few_files(monkeypatch):
    monkeypatch.setattr(Transfer, "_transfer", lambda self, file: file)
    taken = []

    def files():
        for number in range(1000):
            taken.append(number)
            yield KnownFile(str(number), 1)

    target = Target(None, LocalStorage("/nowhere"))
    site = SimpleNamespace(files=None)
    for done, _ in enumerate(Transfer(site, target, dry_run=False).all(files()), 1):
        assert len(taken) <= done + 16

    assert done == 1000

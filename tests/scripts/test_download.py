from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import signal
import struct
import termios
import threading
from pathlib import Path

import pytest

from tests.support.servers.http import Stalls, answers, drops_the_download, first

AT_ONCE = ("--retry-after", "0")

HELLO = b"hello\n"


def metadata(filename, content, location="", **changes):
    """What a record says of a file."""
    known = {"hash": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return {"filename": filename, **known, "location": location, **changes}


@pytest.fixture
def add(kinto, files):
    """``add(id, filename, content)`` makes a record with a file, without the plugin's help.

    So it can say what no record should. Further arguments change its ``attachment``, but
    ``original``, which is another attribute. Returns the path of the file on its server.
    """

    def add(record_id, filename, content=HELLO, original=None, **changes):
        location = files.add(f"{kinto.bucket}-{record_id}-{len(files.requests)}", content)
        attributes = {"attachment": metadata(filename, content, location, **changes)}
        if original is not None:
            attributes["original"] = original
        kinto.put(record_id, **attributes)
        return files.path_of(location)

    kinto.create()
    return add


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".last_sync")


def last_sync(folder: Path):
    (entry,) = json.loads((folder / ".last_sync").read_text()).values()
    return entry


def test_attachments_are_stored_in_the_current_folder(download, kinto, target):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    kinto.attach("b", "b.bin", b"")
    kinto.put("c", theme="orange")
    done = download()

    assert done.lines == ["downloaded a.txt", "downloaded b.bin"]
    assert done.summary == "downloaded 2, unchanged 0, failed 0, 6 bytes"
    assert (target / "a.txt").read_bytes() == HELLO
    assert (target / "b.bin").read_bytes() == b""
    assert names(target) == ["a.txt", "b.bin"]


def test_a_folder_can_be_named_and_is_made(download, kinto, target):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    download("-f", "new/folder")

    assert names(target / "new" / "folder") == ["a.txt"]


def test_compressed_attachments_are_decompressed(upload, download, local, target):
    (local / "a.txt").write_bytes(HELLO * 1000)
    upload("--gzip", "a.txt")
    download()

    assert names(target) == ["a.txt"]
    assert (target / "a.txt").read_bytes() == HELLO * 1000


def test_the_next_run_only_asks_for_what_has_changed(download, kinto, target, files):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    kinto.attach("b", "b.txt", HELLO)
    download()
    (target / "a.txt").unlink()
    kinto.attach("b", "b.txt", b"new")
    kinto.attach("c", "c.txt", b"c")
    files.requests.clear()
    done = download()

    assert done.lines == ["downloaded b.txt", "downloaded c.txt"]
    assert (target / "b.txt").read_bytes() == b"new"
    assert len(files.requests) == 2
    assert names(target) == ["b.txt", "c.txt"]
    assert download().summary == "downloaded 0, unchanged 0, failed 0, 0 bytes"


def test_what_is_there_already_is_left_alone(download, kinto, target, files):
    kinto.create()
    for name in ("a", "b"):
        kinto.attach(name, f"{name}.txt", HELLO)
        download()
        (target / ".last_sync").unlink()
    before = (target / "a.txt").stat()
    (target / "b.txt").unlink()
    files.requests.clear()
    done = download()

    assert done.lines == ["downloaded b.txt", "unchanged a.txt"]
    assert (target / "a.txt").stat().st_ino == before.st_ino
    assert (target / "b.txt").read_bytes() == HELLO
    assert len(files.requests) == 1


def test_what_no_run_has_written_is_not_replaced(download, kinto, target, files):
    kinto.create()
    kinto.attach("a", "Makefile", b"all: trap")
    (target / "Makefile").write_bytes(b"all: mine")
    done = download(status=1)

    assert "failed Makefile: what is there was not written by an earlier run" in done.err
    assert (target / "Makefile").read_bytes() == b"all: mine"
    assert not files.requests
    assert download("--replace").lines == ["downloaded Makefile"]
    assert (target / "Makefile").read_bytes() == b"all: trap"


def test_what_was_changed_after_a_run_is_not_replaced(upload, download, kinto, local, target):
    for name in ("a.txt", "b.txt"):
        (local / name).write_bytes(HELLO)
    upload("a.txt")
    upload("--gzip", "b.txt")
    download()
    for name in ("a.txt", "b.txt"):
        (target / name).write_bytes(b"my notes")
        (local / name).write_bytes(b"new")
    upload("a.txt")
    upload("--gzip", "b.txt")
    done = download(status=1)

    assert done.err.count("was changed since; move it away, or use --replace.") == 2
    assert [(target / name).read_bytes() for name in ("a.txt", "b.txt")] == [b"my notes"] * 2
    (target / "a.txt").rename(target / "mine.txt")
    (target / "b.txt").write_bytes(HELLO)
    assert download().lines == ["downloaded a.txt", "downloaded b.txt"]


def test_a_file_of_ones_own_is_not_taken_over_by_equal_content(download, kinto, target):
    kinto.create()
    kinto.attach("a", "Makefile", HELLO)
    (target / "Makefile").write_bytes(HELLO)

    assert download().lines == ["unchanged Makefile"]
    kinto.attach("a", "Makefile", b"all: trap")
    assert "failed Makefile: " in download(status=1).err
    assert (target / "Makefile").read_bytes() == HELLO


def test_what_a_killed_run_has_written_is_known_to_the_next(
    download, kinto, target, files, eventually
):
    kinto.create()
    # What was changed last comes first.
    kinto.attach("b", "b.txt", b"b" * 100)
    kinto.attach("a", "a.txt", HELLO)
    stalls = Stalls(50)
    files.faults += [stalls]
    files.concerned = lambda request: files.is_file(request) and len(files.requests) > 1
    with download.start("--jobs", "1") as process:
        eventually(lambda: (target / "a.txt").exists() and _part_size(target) == 50)
        process.kill()
    stalls.go_on()
    kinto.attach("a", "a.txt", b"new")

    assert download().lines == ["downloaded a.txt", "downloaded b.txt"]


def test_what_appears_meanwhile_is_not_replaced(download, target, files, add):
    add("a", "a.txt")
    files.faults += [first(lambda: (target / "a.txt").write_bytes(b"mine"))]
    done = download(status=1)

    assert "failed a.txt: what is there was not written" in done.err
    assert (target / "a.txt").read_bytes() == b"mine"
    assert names(target) == ["a.txt"]


def test_a_failure_is_tried_again_in_the_next_run(download, kinto, target, files, add):
    add("a", "a.txt")
    download()
    before = last_sync(target)
    add("b", "b.txt", hash="0" * 64)
    add("c", "c.txt")
    done = download(status=1)

    assert done.summary == "downloaded 1, unchanged 0, failed 1, 6 bytes"
    assert "failed b.txt: its content is not what its record says." in done.err
    assert names(target) == ["a.txt", "c.txt"]
    assert last_sync(target)["timestamp"] == before["timestamp"]
    add("b", "b.txt")
    assert download().lines == ["downloaded b.txt", "unchanged c.txt"]
    assert int(last_sync(target)["timestamp"]) > int(before["timestamp"])


def test_a_broken_last_sync_is_as_good_as_none(download, kinto, target):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    download()
    entry = next(iter(json.loads((target / ".last_sync").read_text())))
    for content in ("1447834938251", "{", json.dumps({entry: {"names": [], "timestamp": "9"}})):
        (target / ".last_sync").write_text(content)

        assert download().lines == ["unchanged a.txt"]


def test_who_sees_other_records_starts_from_nothing(download, kinto, target):
    kinto.create({"read": [kinto.user("bob")]})
    kinto.attach("a", "a.txt", HELLO)
    download()

    assert download(auth="bob:secret").lines == ["unchanged a.txt"]


def test_a_collection_that_begins_anew_is_read_from_the_start(download, target, add):
    add("a", "a.txt")
    download()
    timestamp = last_sync(target)["timestamp"]
    content = (target / ".last_sync").read_text()
    (target / ".last_sync").write_text(content.replace(timestamp, str(int(timestamp) + 60_000)))
    add("b", "b.txt", hash="0" * 64)

    assert download(status=1).lines == ["unchanged a.txt"]
    assert last_sync(target)["timestamp"] is None
    add("b", "b.txt")
    assert download().lines == ["downloaded b.txt", "unchanged a.txt"]


def test_local_files_stay_when_their_records_go(download, kinto, target):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    kinto.attach("b", "b.txt", HELLO)
    download()
    kinto.delete("a")
    kinto.request("DELETE", f"{kinto.uri}/records/b")
    kinto.attach("z", "a.txt", b"other")
    done = download()

    # The name is free again.
    assert done.lines == ["downloaded a.txt"]
    assert names(target) == ["a.txt", "b.txt"]


def test_many_pages_are_followed(download, kinto, target):
    kinto.create()
    requests_ = [
        {"path": f"/{kinto.uri}/records/{number}", "body": {"data": {}}} for number in range(100)
    ]
    batch = {"defaults": {"method": "PUT"}, "requests": requests_}
    kinto.request("POST", "batch", json=batch)
    kinto.attach("last", "a.txt", HELLO)
    kinto.attach("0", "b.txt", HELLO)
    download()

    assert names(target) == ["a.txt", "b.txt"]


def test_what_is_no_attachment_is_ignored_and_what_makes_no_sense_is_said(
    download, kinto, target, add
):
    kinto.put("number", attachment=5)
    kinto.put("null", attachment=None)
    kinto.put("nowhere", attachment=metadata("a.txt", HELLO))
    add("base64", "b.txt", hash="hPME6i9avCf/LFaznYr+sHtwQEX7mXYHSu+vgtygpM8=")
    add("endless", "c.txt", size="6")
    add("negative", "c.txt", size=-1)
    add("good", "d.txt", original={"painter": "Vermeer"})
    done = download(status=1)

    assert sorted(done.err.splitlines()) == [
        "failed record base64: its record has no SHA-256 of it.",
        "failed record endless: its record does not know its size.",
        "failed record negative: its record does not know its size.",
        "failed record nowhere: its attachment has no location.",
    ]
    assert done.lines == ["downloaded d.txt"]


# What comes from a record, and what it is called in the folder.
FILENAMES = {
    "plain.txt": "plain.txt",
    "été €😀.txt": "été €😀.txt",
    "../up.txt": "up.txt",
    "/etc/absolute.txt": "absolute.txt",
    "..\\windows.txt": "windows.txt",
    "C:\\drive.txt": "drive.txt",
    "nul\0byte.txt": "nulbyte.txt",
    "new\r\nline.txt": "newline.txt",
    "": "record-9",
    ".": "record-10",
    "..": "record-11",
    "folder/": "record-12",
    "folder/..": "record-13",
    " ": "record-14",
    ".last_sync": "_.last_sync",
    ".LAST_SYNC": "_.LAST_SYNC",
    ".last_sync.new": "_.last_sync.new",
    f".{'0' * 32}.part": f"_.{'0' * 32}.part",
    ".bashrc": "_.bashrc",
    " .profile": "_.profile",
    "\u202e.netrc": "_.netrc",
    "...": "_...",
    "nul": "_nul",
    "Con.txt": "_Con.txt",
    "lpt1.tar.gz": "_lpt1.tar.gz",
    "COM\u00b9 .txt": "_COM\u00b9 .txt",
    "conin$": "_conin$",
    "console.txt": "console.txt",
    "annexe \u202egnp.exe": "annexe gnp.exe",
    f"{'é' * 200}.jpeg": f"{'é' * 125}.jpeg",
    f"a.{'x' * 300}": f"a.{'x' * 253}",
    "-rf": "-rf",
    "~": "~",
}


def test_no_filename_leads_out_of_the_folder(download, kinto, target, add):
    for number, filename in enumerate(FILENAMES, 1):
        add(f"record-{number}", filename, filename.encode())
    add("original", "a.gz", gzip.compress(HELLO), original=metadata("../../original.txt", HELLO))
    for value in (None, 5, ["a"]):
        add(f"type-{type(value).__name__}", value)
    around = sorted(target.parent.rglob("*"))
    download()

    for filename, name in FILENAMES.items():
        assert (target / name).read_bytes() == filename.encode()
    others = ["original.txt", "type-NoneType", "type-int", "type-list"]
    assert names(target) == sorted([*FILENAMES.values(), *others])
    assert [path for path in sorted(target.parent.rglob("*")) if path.parent != target] == around


def test_no_record_id_leads_out_of_the_folder(download, target, files, proxy):
    location = files.add("hostile", HELLO)
    filenames = ["", "", "half \ud83d of a pair"]
    records = [
        {"id": f"../{number}", "attachment": metadata(filename, HELLO, location)}
        for number, filename in enumerate(filenames)
    ]
    proxy.concerned = lambda request: "/records" in request.path
    proxy.faults += [answers(200, {"ETag": '"1"'}, json.dumps({"data": records}).encode())]
    download(url=proxy.url)

    assert names(target)[2] == "half ? of a pair"
    assert [len(name) for name in names(target)[:2]] == [64, 64]


def test_links_in_the_folder_are_not_followed(download, target, tmp_path, add):
    for name in ("a", "b", "c"):
        add(name, f"{name}.txt", name.encode())
    outside = tmp_path / "outside"
    outside.write_bytes(b"a")
    (target / "a.txt").symlink_to(outside)
    (target / "b.txt").symlink_to(tmp_path / "not there")
    (target / ".last_sync").symlink_to(outside)
    os.mkfifo(target / "c.txt")
    refused = download(status=1)
    assert refused.err.count("was not written by an earlier run") == 3
    download("--replace")

    assert outside.read_bytes() == b"a"
    assert not (tmp_path / "not there").exists()
    assert names(target) == ["a.txt", "b.txt", "c.txt"]
    for path in target.iterdir():
        assert not path.is_symlink()
        assert path.is_file()


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_links_in_place_of_a_part_are_not_followed(
    download, target, tmp_path, files, add, eventually, link
):
    add("a", "a.txt", b"a" * 100_000)
    stalls = Stalls(50_000)
    files.faults += [stalls]
    with download.start() as process:
        eventually(lambda: _part_size(target) == 50_000)
        process.kill()
    stalls.go_on()
    outside = tmp_path / "outside"
    outside.write_bytes(b"a" * 10)
    for path in [*target.glob(".*.part"), *target.glob(".*.etag")]:
        path.unlink()
        link(path, outside)
    download()

    assert outside.read_bytes() == b"a" * 10
    assert (target / "a.txt").read_bytes() == b"a" * 100_000


def test_a_folder_in_the_way_is_said(download, target, add):
    add("a", "a.txt")
    (target / "a.txt").mkdir()

    assert "failed a.txt: what is there was not written" in download(status=1).err
    assert "failed a.txt: Is a directory." in download("--replace", status=1).err


def test_records_with_one_filename_do_not_overwrite_each_other(download, target, add):
    # Twice, and with somebody who has the other's second choice.
    add("b", "a.tar.gz", b"b")
    add("c", "a.tar.gz", b"c")
    add("a", "a.tar-b.gz", b"a")
    add("d", ".a", b"d")
    add("e", ".a", b"e")
    download()

    contents = {path.name: path.read_bytes() for path in target.iterdir()}
    contents.pop(".last_sync")
    assert contents == {
        "a.tar-b.gz": b"a",
        "a.tar.gz": b"b",
        "a.tar-c.gz": b"c",
        "_.a": b"d",
        "_-e.a": b"e",
    }


def test_names_are_kept_from_run_to_run(download, target, add):
    add("m", "a.txt", b"m")
    download()
    # In one go, these would be first.
    add("a", "a.txt", b"a")
    download()
    add("m", "a.txt", b"M")
    add("0", "a.txt", b"0")
    download()

    assert {name: (target / name).read_bytes() for name in names(target)} == {
        "a.txt": b"M",
        "a-a.txt": b"a",
        "a-0.txt": b"0",
    }


def test_names_are_kept_when_a_run_fails(download, target, add):
    add("m", "a.txt", b"m")
    add("z", "z.txt", hash="0" * 64)
    download(status=1)
    add("a", "a.txt", b"a")
    download(status=1)

    assert (target / "a.txt").read_bytes() == b"m"
    assert (target / "a-a.txt").read_bytes() == b"a"


def test_collections_can_share_a_folder(download, kinto, target, add):
    add("a", "a.txt", b"one")
    download()
    kinto.collection = "others"
    kinto.create()
    kinto.attach("b", "a.txt", b"two")

    assert download().lines == ["downloaded a-b.txt"]
    assert (target / "a.txt").read_bytes() == b"one"
    kinto.collection = "assets"
    assert download().summary == "downloaded 0, unchanged 0, failed 0, 0 bytes"


def test_two_runs_do_not_share_a_folder(download, kinto, target, files, add, eventually):
    add("a", "a.txt")
    stalls = Stalls(1)
    files.faults += [stalls]
    with download.start(*AT_ONCE) as process:
        eventually(files.files)
        done = download(status=1)
        stalls.go_on()
        process.communicate(timeout=20)

    assert done.err == "Nothing was downloaded: another download into the folder is running.\n"
    assert process.returncode == 0


def test_a_relative_location_is_below_the_base_url(download, kinto, target, files):
    kinto.create()
    files.add("relative", HELLO)
    kinto.put("a", attachment=metadata("a.txt", HELLO, "relative"))
    download()

    assert (target / "a.txt").read_bytes() == HELLO


def test_credentials_stay_with_kinto(download, kinto, target, files, proxy):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    location = files.add("elsewhere", b"redirected")
    kinto.put("b", attachment=metadata("b.txt", b"redirected", f"{proxy.url}redirect"))
    seen = []

    def redirect(exchange):
        seen.append(exchange.headers["Authorization"])
        exchange.answer(302, {"Location": location})

    proxy.concerned = lambda request: request.path == "/v1/redirect"
    proxy.faults += [redirect]
    download(url=proxy.url)

    assert len(files.requests) == 2
    assert not any("Authorization" in request.headers for request in files.requests)
    assert [value.startswith("Basic ") for value in seen] == [True]


# Locations in which parsers see different hosts: {0} is where credentials would go, {1} is Kinto.
DECEITFUL = [
    "http://{0}\\@{1}/v1/files/x",
    "http://{0}\\/@{1}/v1/files/x",
    "http://{1}@{0}/v1/files/x",
    "http://{1}:80@{0}/v1/files/x",
    "http://{0}\t\\@{1}/v1/files/x",
    "http://{0}\x0b@{1}/v1/files/x",
    " http://{1}@{0}/v1/files/x",
    "http:\\\\{0}\\v1\\files\\x",
    "http:///{0}/v1/files/x",
    "http://{0}:x/v1/files/x",
]


@pytest.mark.parametrize("location", DECEITFUL)
def test_a_location_that_parsers_read_differently_is_refused(
    download, kinto, files, proxy, location
):
    kinto.create()
    location = location.format(f"127.0.0.1:{files.port}", f"127.0.0.1:{proxy.port}")
    kinto.put("a", attachment=metadata("a.txt", HELLO, location))
    done = download("--retry", "0", url=proxy.url, status=1)

    assert "failed a.txt: " in done.err
    assert not [request for request in files.requests if "Authorization" in request.headers]
    # One that is no URL at all is a name below base_url.
    assert "is no plain http or https URL" in done.err or "404" in done.err


@pytest.fixture
def netrc(tmp_path):
    """An environment with a .netrc that has a password for 127.0.0.1, whatever the port."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login mallory password stolen\n")
    return {"NETRC": str(path)}


def test_no_password_of_netrc_goes_to_a_file_server(download, kinto, files, proxy, netrc):
    kinto.create()
    kinto.attach("a", "a.txt", HELLO)
    location = files.add("elsewhere", HELLO)
    kinto.put("b", attachment=metadata("b.txt", HELLO, f"{proxy.url}redirect"))
    seen = []

    def redirect(exchange):
        seen.append(exchange.headers["Authorization"])
        cookie = "session=kinto; Domain=127.0.0.1; Path=/"
        exchange.answer(302, {"Location": location, "Set-Cookie": cookie})

    proxy.concerned = lambda request: request.path == "/v1/redirect"
    proxy.faults += [redirect]
    download(url=proxy.url, environ=netrc)

    assert len(files.requests) == 2
    for request in files.requests:
        assert not {"Authorization", "Cookie"} & {*request.headers}
    # alice:secret
    assert seen == ["Basic YWxpY2U6c2VjcmV0"]


def test_a_file_server_that_redirects_to_kinto_does_not_speak_for_the_user(
    download, kinto, files, proxy
):
    kinto.create()
    location = files.add("x", HELLO)
    kinto.put("a", attachment=metadata("a.txt", HELLO, location))
    files.faults += [answers(302, {"Location": f"{proxy.url}buckets/default"})]
    download("--retry", "0", url=proxy.url, status=1)

    assert [r.headers["Authorization"] for r in proxy.requests if "default" in r.path] == [None]


def test_a_redirect_to_what_is_no_web_address_is_refused(download, kinto, files):
    kinto.create()
    kinto.put("a", attachment=metadata("a.txt", HELLO, files.add("x", HELLO)))
    files.faults += [answers(302, {"Location": "file:///etc/passwd"})]

    assert "is no plain http or https URL" in download(status=1).err


def test_what_others_wrote_is_printed_escaped(download, kinto, target):
    kinto.create()
    kinto.put("line", attachment=metadata("a.txt", HELLO, "http://x\\\x1b]0;title\x07\u202e"))
    kinto.attach("b", "b\u2028\u200f.txt", HELLO)
    for record_id in ("line", "odd%0A"):
        kinto.request("PUT", f"{kinto.uri}/records/{record_id}", json={"data": {"attachment": {}}})
    kinto.put("last", attachment=metadata("c.txt", HELLO, "http://x\\\x1b]0;title\x07\u202e"))
    done = download("--debug", "--retry", "0", status=1)

    said = done.out + done.err
    assert "failed record odd\\n: its attachment has no location.\n" in said
    assert "http://x\\\\x1b]0;title\\x07\\u202e" in said
    assert not {"\x1b", "\x07", "\u202e", "\u2028", "\u200f"} & {*said}


def test_files_that_kinto_serves_are_downloaded(download, kinto, target):
    kinto.create()
    location = kinto.attach("a", "a.txt", HELLO)["location"]
    name = location.rpartition("/")[2]
    kinto.put("b", attachment=metadata("b.txt", HELLO, f"{kinto.url}files/{name}"))
    download()

    assert (target / "b.txt").read_bytes() == HELLO


# The file, what its record says of it, and what the script says of both.
WRONG = [
    (HELLO, {"size": 5}, "it has 6 bytes, and 5 in its record."),
    (HELLO, {"size": 7}, "it has 6 bytes, and 7 in its record."),
    (HELLO, {"hash": "f" * 64}, "its content is not what its record says."),
    (HELLO, {"original": metadata("", HELLO)}, "it cannot be decompressed, Not a gzipped file"),
    (
        gzip.compress(HELLO)[:-9],
        {"original": metadata("", HELLO)},
        "it cannot be decompressed, Compressed file ended",
    ),
    (
        gzip.compress(HELLO),
        {"original": metadata("", HELLO, hash="f" * 64)},
        "it does not decompress to what its record says.",
    ),
    (
        gzip.compress(HELLO),
        {"original": metadata("", HELLO, size=7)},
        "it does not decompress to what its record says.",
    ),
    (
        gzip.compress(bytes(10_000_000)),
        {"original": metadata("", HELLO)},
        "it decompresses to more than its record says.",
    ),
]


def test_what_is_not_what_the_record_says_gets_no_name(download, target, add):
    for number, (content, changes, _) in enumerate(WRONG):
        # Without a filename, it is called after its record.
        add(f"wrong-{number}", "", content, **changes)
        (target / f"wrong-{number}").write_bytes(b"before")
    done = download("--replace", status=1)

    for number, (_, _, sentence) in enumerate(WRONG):
        assert f"failed wrong-{number}: {sentence}" in done.err
        assert (target / f"wrong-{number}").read_bytes() == b"before"
    assert len(names(target)) == len(WRONG)


def test_more_than_was_announced_is_not_taken(download, target, files, add):
    add("a", "a.txt", b"a" * 100)

    def endless(exchange):
        exchange.start(200, {"Connection": "close"})
        while True:
            exchange.wfile.write(bytes(65536))

    files.faults += [endless]

    assert "failed a.txt: it is larger than its record says." in download(status=1).err
    assert _part_size(target) <= 100


def test_a_broken_connection_is_continued(download, target, files, add):
    content = os.urandom(3_000_000)
    add("a", "a.bin", content)
    files.faults += [
        drops_the_download(1_000_000),
        answers(503, {"Retry-After": "1"}),
        drops_the_download(1_000_000),
    ]
    done = download()

    assert (target / "a.bin").read_bytes() == content
    assert names(target) == ["a.bin"]
    assert done.seconds > 1
    assert done.summary == "downloaded 1, unchanged 0, failed 0, 3000000 bytes"
    ranges = [request.headers["Range"] for request in files.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=1000000-", "bytes=2000000-"]


def test_a_killed_download_is_continued(download, target, files, add, eventually):
    content = os.urandom(3_000_000)
    path = add("a", "a.bin", content)
    stalls = Stalls(1_000_000)
    files.faults += [stalls]
    with download.start() as process:
        eventually(lambda: _part_size(target) == 1_000_000)
        process.kill()
    stalls.go_on()
    assert not (target / "a.bin").exists()
    done = download()

    assert done.summary == "downloaded 1, unchanged 0, failed 0, 2000000 bytes"
    assert (target / "a.bin").read_bytes() == content
    assert names(target) == ["a.bin"]
    request = files.requests[-1]
    assert request.headers["Range"] == "bytes=1000000-"
    assert request.headers["If-Range"] == files.etag(path)


@pytest.mark.parametrize("server", ["no ranges", "no etags", "another file", "416", "odd range"])
def test_what_cannot_be_continued_is_downloaded_from_the_start(
    download, target, files, add, server
):
    content = os.urandom(300_000)
    path = add("a", "a.bin", content)
    files.has_ranges = server != "no ranges"
    files.has_etags = server != "no etags"
    files.faults += [drops_the_download(100_000)]
    if server == "another file":
        path.write_bytes(bytes(300_000))
        files.faults += [first(lambda: path.write_bytes(content))]
    elif server == "416":
        files.faults += [answers(416)]
    elif server == "odd range":
        files.faults += [answers(206, {"Content-Range": "bytes 5-9/300000"}, b"12345")]
    done = download(*AT_ONCE)

    assert (target / "a.bin").read_bytes() == content
    assert done.status == 0
    assert ("If-Range" in files.requests[1].headers) == (server != "no etags")


def test_pieces_that_do_not_fit_are_downloaded_again(download, target, files, add):
    content = os.urandom(300_000)
    add("a", "a.bin", content)
    files.has_etags = False
    files.faults += [drops_the_download(100_000)]
    download("--retry", "0", status=1)
    (part,) = target.glob(".*.part")
    part.write_bytes(bytes(100_000))
    download()

    assert (target / "a.bin").read_bytes() == content
    ranges = [request.headers["Range"] for request in files.requests]
    assert ranges == [None, "bytes=100000-", None]


def test_files_come_several_at_a_time(download, files, add):
    for name in "abcd":
        add(name, f"{name}.txt")
    meeting = threading.Barrier(4, timeout=20)
    files.faults += [first(meeting.wait)] * 4

    assert download().summary.startswith("downloaded 4,")


def test_ctrl_c_ends_at_once_and_the_next_run_continues(download, target, files, add, eventually):
    add("b", "b.txt")
    add("a", "a.txt", b"a" * 100_000)
    stalls = Stalls(50_000)
    files.faults += [stalls]
    with download.start("--jobs", "1") as process:
        eventually(lambda: _part_size(target) == 50_000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    stalls.go_on()

    assert process.returncode == 130
    assert err == "Interrupted.\n"
    assert last_sync(target)["timestamp"] is None
    assert download().summary == "downloaded 2, unchanged 0, failed 0, 50006 bytes"


def test_a_terminal_gets_a_bar(download, add):
    add("a", "a.bin", bytes(3_000_000))
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    with download.start(stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)

    assert process.returncode == 0
    assert b"/2.86M" in seen
    assert b"downloaded a.bin" not in seen
    assert b"downloaded 1, unchanged 0, failed 0, 3000000 bytes" in seen


def test_a_collection_that_is_not_there_is_said(download, kinto, target):
    done = download(status=1)

    assert "Nothing was downloaded: the server answered 403, " in done.err
    assert not names(target)


def test_help_tells_how_to_call_it(download):
    assert "scripts/download.py --server=" in download("--help").out


def _part_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(".*.part"))

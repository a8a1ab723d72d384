from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import signal
import struct
import termios
import threading

import pytest

from tests.scripts.conftest import record_id
from tests.support.servers.http import answers, drops_the_upload, first, loses_the_answer
from tests.support.servers.privileges import as_a_user_like_others

AT_ONCE = ("--retry-after", "0")

HELLO = b"hello\n"

NAMES = [
    "été €😀.txt",
    'q"uo%te.txt',
    "semi;colon='x'.txt",
    "100%.txt",
    "100%0Apple été.pdf",
    "a%22b%0d.txt",
    ".hidden",
    "two  spaces.tar.gz",
    "no extension",
]

# The plugin drops control characters, and what looks like a folder; the script has to get through.
ODD_NAMES = {"new\r\nline.txt": "newline.txt", "back\\slash.txt": "slash.txt"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_are_attached_to_records_that_are_named_after_them(upload, local, kinto, files):
    (local / "a.txt").write_bytes(HELLO)
    (local / "folder").mkdir()
    (local / "folder" / "b.png").write_bytes(b"")
    done = upload("a.txt", "folder/b.png", url=kinto.url.rstrip("/"))

    assert done.lines == ["uploaded a.txt", "uploaded folder/b.png"]
    assert done.summary == "uploaded 2, unchanged 0, failed 0, 6 bytes"
    attachment = kinto.record("a.txt")["attachment"]
    assert files.path_of(attachment.pop("location")).read_bytes() == HELLO
    assert attachment == {
        "filename": "a.txt",
        "hash": sha256(HELLO),
        "mimetype": "text/plain",
        "size": 6,
    }
    assert kinto.record("b.png")["attachment"]["mimetype"] == "image/png"
    assert record_id("a.txt") == "a5e54d1f-d7bb-69a2-28ef-0dcd2431367e"


def test_unchanged_files_are_skipped(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")
    before = kinto.records()
    done = upload("a.txt")

    assert done.lines == ["unchanged a.txt"]
    assert done.summary == "uploaded 0, unchanged 1, failed 0, 0 bytes"
    assert kinto.records() == before


def test_changed_files_go_to_the_same_record_which_keeps_the_rest(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")
    kinto.patch(record_id("a.txt"), theme="orange")
    (local / "a.txt").write_bytes(b"HELLO\n")

    assert upload("a.txt").lines == ["uploaded a.txt"]
    (record,) = kinto.records()
    assert record["attachment"]["hash"] == sha256(b"HELLO\n")
    assert record["theme"] == "orange"


def test_force_uploads_unchanged_files(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")
    before = kinto.record("a.txt")

    assert upload("--force", "a.txt").lines == ["uploaded a.txt"]
    assert kinto.record("a.txt")["last_modified"] > before["last_modified"]


def test_gzip_compresses_and_remembers_the_original(upload, local, kinto, files):
    content = b"hello\n" * 100_000
    (local / "a.csv").write_bytes(content)
    upload("--gzip", "a.csv")

    record = kinto.record("a.csv")
    assert record["original"] == {
        "filename": "a.csv",
        "hash": sha256(content),
        "mimetype": "text/csv",
        "size": 600_000,
    }
    attachment = record["attachment"]
    assert attachment["filename"] == "a.csv.gz"
    assert attachment["mimetype"] == "application/gzip"
    assert gzip.decompress(files.path_of(attachment["location"]).read_bytes()) == content


def test_gzip_skips_unchanged_files_and_always_compresses_alike(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("--gzip", "a.txt")
    before = kinto.record("a.txt")["attachment"]

    assert upload("--gzip", "a.txt").lines == ["unchanged a.txt"]
    os.utime(local / "a.txt", (1, 1))
    assert upload("--gzip", "--force", "a.txt").lines == ["uploaded a.txt"]
    assert kinto.record("a.txt")["attachment"]["hash"] == before["hash"]


def test_gzip_replaces_what_was_not_compressed_and_the_other_way_round(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")

    assert upload("--gzip", "a.txt").lines == ["uploaded a.txt"]
    assert kinto.record("a.txt")["original"]["size"] == len(HELLO)
    assert upload("a.txt").lines == ["uploaded a.txt"]
    record = kinto.record("a.txt")
    assert record["original"] is None
    assert record["attachment"]["hash"] == sha256(HELLO)
    assert upload("a.txt").lines == ["unchanged a.txt"]


def test_a_record_whose_attachment_others_have_replaced_is_updated(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    upload("--gzip", "a.txt")
    kinto.attach(record_id("a.txt"), "b.txt", b"other")

    assert upload("--gzip", "a.txt").lines == ["uploaded a.txt"]
    assert kinto.record("a.txt")["attachment"]["filename"] == "a.txt.gz"


def test_an_attribute_original_of_somebody_else_stays(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    kinto.create()
    kinto.put(record_id("a.txt"), original={"painter": "Vermeer"})
    upload("a.txt")

    assert kinto.record("a.txt")["original"] == {"painter": "Vermeer"}
    assert upload("a.txt").lines == ["unchanged a.txt"]


def test_names_survive(upload, local, kinto):
    for name in (*NAMES, *ODD_NAMES):
        (local / name).write_bytes(name.encode())
    upload(*NAMES, *ODD_NAMES)

    for name in (*NAMES, *ODD_NAMES):
        attachment = kinto.record(name)["attachment"]
        assert attachment["filename"] == ODD_NAMES.get(name, name)
        assert attachment["hash"] == sha256(name.encode())


def test_original_names_survive(upload, local, kinto):
    for name in (*NAMES, *ODD_NAMES):
        (local / name).write_bytes(name.encode())
    upload("--gzip", *NAMES, *ODD_NAMES)

    for name in (*NAMES, *ODD_NAMES):
        assert kinto.record(name)["original"]["filename"] == name


def test_a_collection_that_one_may_not_create_is_used_if_it_exists(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    kinto.create({"record:create": [kinto.user("bob")]})

    upload("a.txt", auth="bob:secret")
    assert kinto.record("a.txt")["attachment"]["size"] == 6
    (local / "a.txt").write_bytes(b"other")
    upload("a.txt", auth="bob:secret")
    assert kinto.record("a.txt")["attachment"]["size"] == 5


def test_a_collection_that_one_may_not_create_and_that_is_not_there_is_an_error(
    upload, local, kinto
):
    (local / "a.txt").write_bytes(HELLO)
    kinto.request("PUT", f"buckets/{kinto.bucket}", auth=("bob", "secret"))
    done = upload("a.txt", status=1)

    assert "failed a.txt: the collection does not exist, and you may not create it." in done.err


def test_what_the_server_refuses_is_said_and_the_others_go_on(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    (local / "large.txt").write_bytes(bytes(1001))
    kinto.bucket = "small"
    done = upload("large.txt", "a.txt", status=1)

    assert "uploaded a.txt" in done.lines
    assert done.summary == "uploaded 1, unchanged 0, failed 1, 6 bytes"
    assert "failed large.txt: the server answered 413, The attachment is larger" in done.err
    assert "Trying again" not in done.err


def test_what_cannot_be_read_is_said_and_the_others_go_on(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    (local / "folder").mkdir()
    (local / "loop").symlink_to("loop")
    os.mkfifo(local / "pipe")
    undecodable = os.fsdecode(b"caf\xe9")
    (local / undecodable).write_bytes(HELLO)
    done = upload("missing", "folder", "loop", "pipe", undecodable, "a.txt", status=1)

    assert done.lines == ["uploaded a.txt"]
    assert done.summary == "uploaded 1, unchanged 0, failed 5, 6 bytes"
    assert done.err.splitlines() == [
        "failed missing: No such file or directory.",
        "failed folder: it is a folder; name the files in it.",
        "failed loop: Too many levels of symbolic links.",
        "failed pipe: it is not a file.",
        "failed caf\\udce9: its name is not in UTF-8; rename it.",
    ]
    assert len(kinto.records()) == 1


def test_a_file_without_permission_is_said(upload, local):
    (local / "secret.txt").write_bytes(HELLO)
    (local / "secret.txt").chmod(0)

    done = upload("secret.txt", status=1, through=as_a_user_like_others())

    assert "failed secret.txt: Permission denied." in done.err


def test_two_files_with_one_name_are_refused_before_anything_is_sent(upload, local, proxy):
    for folder in ("one", "two"):
        (local / folder).mkdir()
        (local / folder / "a.txt").write_text(folder)
    done = upload("one/a.txt", "two/a.txt", url=proxy.url, status=2)

    assert "'one/a.txt' and 'two/a.txt' have the same name, thus one record" in done.err
    assert not proxy.requests


def test_a_file_that_is_named_twice_is_uploaded_once(upload, local):
    (local / "a.txt").write_bytes(HELLO)

    assert upload("a.txt", "./a.txt", local / "a.txt").lines == ["uploaded a.txt"]


@pytest.mark.parametrize(
    "arguments", [("a.txt", "--jobs", "0"), ("a.txt", "--bucket", "a/b"), ("a.txt", "-c", "")]
)
def test_a_command_line_without_sense_is_refused(upload, arguments):
    assert "usage:" in upload(*arguments, status=2).err


def test_a_busy_server_is_asked_again_when_it_wants_to(upload, local, kinto, proxy):
    (local / "a.txt").write_bytes(HELLO)
    proxy.faults += [answers(503, {"Retry-After": "1"})]
    done = upload("a.txt", url=proxy.url)

    assert "a.txt: the server answered 503, Service Unavailable. Trying again in 1.0" in done.err
    assert done.seconds > 1
    assert done.lines == ["uploaded a.txt"]
    assert kinto.record("a.txt")["attachment"]["hash"] == sha256(HELLO)


def test_a_broken_connection_is_tried_again_from_the_start(upload, local, kinto, proxy):
    content = os.urandom(3_000_000)
    (local / "a.bin").write_bytes(content)
    proxy.faults += [drops_the_upload(1_000_000), answers(409), drops_the_upload(2_500_000)]
    done = upload("a.bin", *AT_ONCE, url=proxy.url)

    assert done.err.count("a.bin: connection failed, ") == 2
    assert done.err.count("a.bin: the server answered 409, Conflict.") == 1
    assert kinto.record("a.bin")["attachment"]["hash"] == sha256(content)


def test_a_server_that_wants_fewer_requests_gets_them(upload, local, proxy):
    (local / "a.txt").write_bytes(HELLO)
    proxy.concerned = lambda request: "/records/" in request.path
    proxy.faults += [answers(503, {"Backoff": "1"})]
    done = upload("a.txt", "--retry", "1", *AT_ONCE, url=proxy.url)

    assert "a.txt: Retry after 0 seconds. Trying again in 1.0 seconds." in done.err


def test_a_quota_that_is_exceeded_is_no_reason_to_try_again(upload, local, proxy):
    (local / "a.txt").write_bytes(HELLO)
    proxy.faults += [answers(507)] * 9
    done = upload("a.txt", "--retry", "2", *AT_ONCE, url=proxy.url, status=1)

    assert len(proxy.files()) == 1
    assert "failed a.txt: the server answered 507, Insufficient Storage." in done.err


def test_patience_ends(upload, local, proxy):
    (local / "a.txt").write_bytes(HELLO)
    proxy.faults += [answers(500)] * 9
    done = upload("a.txt", "--retry", "2", *AT_ONCE, url=proxy.url, status=1)

    assert len(proxy.files()) == 3
    assert "failed a.txt: the server answered 500, Internal Server Error." in done.err


def test_an_answer_that_got_lost_does_not_upload_twice(upload, local, kinto, proxy):
    (local / "a.txt").write_bytes(HELLO)
    proxy.faults += [loses_the_answer]
    done = upload("a.txt", *AT_ONCE, url=proxy.url)

    assert done.lines == ["uploaded a.txt"]
    first_try, second_try = proxy.files()
    assert first_try.headers["If-None-Match"] == second_try.headers["If-None-Match"] == "*"


def test_what_others_write_meanwhile_is_not_lost(upload, local, kinto, proxy):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")
    (local / "a.txt").write_bytes(b"HELLO\n")
    proxy.faults += [first(lambda: kinto.patch(record_id("a.txt"), theme="orange"))]
    done = upload("a.txt", url=proxy.url)

    assert done.lines == ["uploaded a.txt"]
    assert [request.headers["If-Match"] is not None for request in proxy.files()] == [True] * 2
    assert kinto.record("a.txt")["theme"] == "orange"
    assert kinto.record("a.txt")["attachment"]["hash"] == sha256(b"HELLO\n")


def test_a_record_that_others_keep_writing_is_theirs(upload, local, kinto, proxy):
    (local / "a.txt").write_bytes(HELLO)
    upload("a.txt")
    (local / "a.txt").write_bytes(b"HELLO\n")
    proxy.faults += [
        first(lambda: kinto.patch(record_id("a.txt"), theme="orange")),
        first(lambda: kinto.patch(record_id("a.txt"), theme="green")),
    ]
    done = upload("a.txt", url=proxy.url, status=1)

    assert "failed a.txt: the server answered 412, " in done.err
    assert kinto.record("a.txt")["attachment"]["hash"] == sha256(HELLO)


def test_a_file_that_gets_shorter_while_it_is_sent_is_not_attached(upload, local, kinto, proxy):
    path = local / "a.bin"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    proxy.faults += [first(lambda: os.truncate(path, 1_000_000))]
    done = upload("a.bin", url=proxy.url, status=1)

    assert "failed a.bin: it got shorter while it was sent; try again." in done.err
    assert not kinto.records()


def test_files_are_sent_several_at_a_time(upload, local, proxy):
    names = [f"{number}.txt" for number in range(4)]
    for name in names:
        (local / name).write_text(name)
    meeting = threading.Barrier(4, timeout=20)
    proxy.faults += [first(meeting.wait)] * 4

    assert upload(*names, url=proxy.url).summary.startswith("uploaded 4,")


def test_a_server_that_is_not_there_is_said(upload, local):
    (local / "a.txt").write_bytes(HELLO)
    done = upload("a.txt", "--retry", "0", url="http://127.0.0.1:1/v1", status=1)

    assert done.err == "Nothing was uploaded: connection failed, Connection refused.\n"


def test_a_server_that_is_not_kinto_is_said(upload, local, files):
    (local / "a.txt").write_bytes(HELLO)
    files.faults += [answers(200, {"Content-Type": "text/html"}, b"<html>")]
    done = upload("a.txt", url=f"{files.url}files", status=1)

    assert "Nothing was uploaded: the answer is not JSON" in done.err


def test_ctrl_c_ends_at_once_and_leaves_nothing(upload, local, kinto, proxy, eventually, tmp_path):
    (local / "a.txt").write_bytes(HELLO)
    over = threading.Event()
    proxy.faults += [first(lambda: over.wait(30))]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with upload.start(
        "--gzip", "a.txt", url=proxy.url, environ={"TMPDIR": str(temporary)}
    ) as process:
        eventually(proxy.files)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    over.set()

    assert process.returncode == 130
    assert err == "Interrupted.\n"
    assert out.startswith("uploaded 0, unchanged 0, failed 0, 0 bytes")
    assert not list(temporary.iterdir())


def test_a_terminal_gets_a_bar(upload, local):
    (local / "a.txt").write_bytes(bytes(3_000_000))
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    with upload.start("a.txt", stdout=theirs, stderr=theirs):
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)

    assert b"/2.86M" in seen
    assert b"uploaded a.txt" not in seen
    assert b"uploaded 1, unchanged 0, failed 0, 3000000 bytes" in seen


def test_quiet_says_nothing_but_what_failed(upload, local):
    (local / "a.txt").write_bytes(HELLO)
    done = upload("--quiet", "a.txt", "missing", status=1)

    assert (done.out, done.err) == ("", "failed missing: No such file or directory.\n")


def test_nobody_needs_credentials_where_everyone_may_write(upload, local, kinto):
    (local / "a.txt").write_bytes(HELLO)
    kinto.create({"write": ["system.Everyone"]})
    environ = {"NETRC": os.devnull}
    done = upload("a.txt", auth="Bearer nobody", environ=environ)

    assert done.lines == ["uploaded a.txt"]


def test_help_tells_how_to_call_it(upload):
    assert "scripts/upload.py --server=" in upload("--help").out

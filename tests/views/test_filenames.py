"""Whatever a client calls its file: it is refused or stored, inside the folder, with its
extension."""

from __future__ import annotations

import re

import pytest

from tests.support.forms import file_part

pytestmark = pytest.mark.both_storages

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")

# How the part goes on after its name, and the extension of what is stored: with none, nothing is.
DISPOSITIONS = {
    "NUL": (b'; filename="a\x00b.txt"', ".txt"),
    "NUL before the extension": (b'; filename="a.php\x00.txt"', ".txt"),
    "NUL only": (b'; filename="\x00"', None),
    "CR LF, as browsers send it": (b'; filename="a%0D%0Ab.txt"', ".txt"),
    "CR LF in RFC 5987": (b"; filename*=UTF-8''a%0D%0AX-Header:%20b.txt", ".txt"),
    "300 characters": (b'; filename="' + b"x" * 300 + b'.txt"', ".txt"),
    "300 characters of three bytes": ('; filename="' + "日" * 300 + '.txt"', ".txt"),
    "an extension of 300 characters": (b'; filename="a.' + b"x" * 300 + b'"', ""),
    "only non-ASCII": ('; filename="日本語.txt"', ".txt"),
    "only non-ASCII, the extension too": ('; filename="日本.語"', ""),
    "a right-to-left override": ('; filename="\u202etxt.exe"', ".exe"),
    "invalid UTF-8": (b'; filename="\xff\xfe.txt"', None),
    "..": (b'; filename=".."', None),
    "a path upwards": (b'; filename="../../a.txt"', ".txt"),
    "a path upwards, of Windows": (b'; filename="..\\..\\a.txt"', ".txt"),
    "a path upwards, encoded": (b"; filename*=UTF-8''..%2F..%2Fa.txt", ".txt"),
    "an absolute path": (b'; filename="/etc/a.txt"', ".txt"),
    "dots only": (b'; filename="...."', ""),
    "hidden": (b'; filename=".txt"', ""),
    "hidden, with an extension": (b'; filename=".a.txt"', ".txt"),
    "format characters": (b'; filename="{bucket_id}%s{0}.txt"', ".txt"),
    "pattern characters": (b'; filename="*[a]?.txt"', ".txt"),
    "empty": (b'; filename=""', None),
    "none": (b"", None),
    "RFC 5987": (b"; filename*=UTF-8''%e2%82%ac.txt", ".txt"),
    "RFC 5987 of an unknown charset": (b"; filename*=x''a.txt", None),
    "RFC 5987 that is no UTF-8": (b"; filename*=UTF-8''%FF.txt", None),
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("disposition", "extension"), DISPOSITIONS.values(), ids=DISPOSITIONS.keys()
)
def test_a_name_is_refused_or_made_safe(make_record, disposition, extension):
    record = make_record(attachment={"randomize": "false", "folder": "files"})
    if isinstance(disposition, str):
        disposition = disposition.encode()

    part = file_part(b"content", disposition=disposition)
    response = record.send(part, status=400 if extension is None else 201)

    if extension is not None:
        (name,) = record.files()
        folder, _, filename = name.rpartition("/")
        assert folder == "files"
        assert filename.isascii()
        assert filename.isprintable()
        assert filename.strip(".") != ""
        assert filename.endswith(extension)
        assert record.content == b"content"
        assert not CONTROL.search(response.json["filename"])


def test_two_records_with_the_same_filename_have_a_file_each(make_record):
    record = make_record(attachment={"randomize": "false"})
    other = record.other()
    record.attach(b"first", "a.txt")
    other.attach(b"second", "a.txt")

    record.detach()

    assert other.content == b"second"
    assert record.files() == ["a-1.txt"]
    assert record.attach(b"third", "a.txt").status_code == 200
    assert other.content == b"second"
    assert record.content == b"third"


def test_a_file_is_replaced_by_one_of_the_same_name(make_record):
    record = make_record(attachment={"randomize": "false"})
    record.attach(b"first", "a.txt")

    record.attach(b"second", "a.txt")

    assert record.content == b"second"
    assert record.files() == ["a-1.txt"]

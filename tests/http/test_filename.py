"""How clients spell a filename, and the name in the record."""

from __future__ import annotations

import base64

import pytest

from tests.support.forms import file_part
from tests.support.tus import begin, metadata


@pytest.fixture
def backend():
    """Names do not depend on where the objects are."""
    return "memory"


def q(text: str) -> str:
    return f"=?utf-8?Q?{''.join(f'={byte:02X}' for byte in text.encode())}?="


def b(text: str, charset: str = "utf-8") -> str:
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset)).decode()}?="


def sent(record, disposition: str, status: int = 201):
    part = file_part(b"content", disposition=disposition.encode())
    return record.send(part, status=status).json


SPELLINGS = {
    ".NET, PowerShell": (
        f"; filename=\"{b('文書.txt')}\"; filename*=utf-8''%E6%96%87%E6%9B%B8.txt",
        "文書.txt",
    ),
    "Apache HttpClient": ("; filename=\"????.txt\"; filename*=UTF-8''%E6%96%87.txt", "文.txt"),
    "filename* before filename": (
        "; filename*=UTF-8''%E6%96%87.txt; filename=\"?.txt\"",
        "文.txt",
    ),
    "filename* in quotes": ("; filename*=\"UTF-8''%E6%96%87.txt\"", "文.txt"),
    "filename* with a language": ("; filename*=UTF-8'en'%E2%82%AC.txt", "€.txt"),
    "filename* of ISO 8859-1": ("; filename*=iso-8859-1''%E9.txt", "é.txt"),
    "filename* that is cut": ("; filename=\"a.txt\"; filename*=UTF-8''%E6%96.txt", "a.txt"),
    "filename* of an unknown charset": ("; filename=\"a.txt\"; filename*=x''b.txt", "a.txt"),
    "filename* that is empty": ("; filename=\"a.txt\"; filename*=UTF-8''", "a.txt"),
    "a parameter in several": (
        "; filename=\"a.txt\"; filename*0*=UTF-8''b; filename*1=c",
        "a.txt",
    ),
    "filename* is exact": ("; filename*=UTF-8''a%2520b.txt", "a%20b.txt"),
    "an encoded word": (f'; filename="{b("é à.txt")}"', "é à.txt"),
    "an encoded word without quotes": (f"; filename={b('é.txt')}", "é.txt"),
    "an encoded word in Q": (f'; filename="{q("é.txt")}"', "é.txt"),
    "underscores are spaces in Q": ('; filename="=?utf-8?q?a_b.txt?="', "a b.txt"),
    "an encoded word of another charset": (f'; filename="{b("é.txt", "iso-8859-1")}"', "é.txt"),
    "an encoded word with a language": ('; filename="=?utf-8*en?Q?=C3=A9.txt?="', "é.txt"),
    "base64 without padding": ('; filename="=?utf-8?B?w6kudHh0Lg?="', "é.txt."),
    "several encoded words": (f'; filename="{b("é")} {b("è.txt", "iso-8859-1")}"', "éè.txt"),
    "a character in two words": ('; filename="=?utf-8?Q?=C3?= =?utf-8?Q?=A9.txt?="', "é.txt"),
    "an encoded word and an extension": (f'; filename="{b("é")}.txt"', "é.txt"),
    "text and an encoded word": (f'; filename="Re: {b("é")}.txt"', "Re: é.txt"),
    "folders in an encoded word": (f'; filename="{b("../../é.txt")}"', "é.txt"),
    "no quotes, with spaces": ("; filename=my file.txt", "my file.txt"),
    "no quotes, and more": ("; filename=my file.txt ; size=7", "my file.txt"),
    "no quotes, not ASCII": ("; filename=é à.txt", "é à.txt"),
    "a semicolon": ('; filename="a;b; name=x.txt"', "a;b; name=x.txt"),
    "a semicolon after it": ('; filename="a.txt";', "a.txt"),
    "another parameter": ('; filename="a.txt"; x=y', "a.txt"),
    "an escaped quote": ('; filename="a\\"b\\\\c.txt"', "c.txt"),
    "a quote, as browsers encode it": ('; filename="say %22hi%22.txt"', 'say "hi".txt'),
    "Kinto Admin": ('; filename="first%20%C3%A9%20paper.txt"', "first é paper.txt"),
    "Kinto Admin, a quote": ('; filename="say%20%22hi%22.txt"', 'say "hi".txt'),
    "Kinto Admin, a percent sign": ('; filename="100%25%20%C3%A9.txt"', "100% é.txt"),
    "Kinto Admin, what it leaves": ('; filename="a%20(b)!*\'~-_.txt"', "a (b)!*'~-_.txt"),
    "Kinto Admin, a folder": ('; filename="a%20b%2Fc.txt"', "c.txt"),
    "a percent sign": ('; filename="100%.txt"', "100%.txt"),
    "a percent sign and digits": ('; filename="100%25.txt"', "100%25.txt"),
    "a plus sign, encoded": ('; filename="a%2Bb.txt"', "a%2Bb.txt"),
    "a line break in letters": ('; filename="100%0Apple.pdf"', "100%0Apple.pdf"),
    "in lower case": ('; filename="a%20%c3%a9.txt"', "a%20%c3%a9.txt"),
    "a space beside": ('; filename="a%20b c.txt"', "a%20b c.txt"),
    "no UTF-8": ('; filename="a%20%E9.txt"', "a%20%E9.txt"),
    "bidirectional controls": ('; filename="a\u202etxt\u2066.exe\u202a\u2069"', "atxt.exe"),
    "marks of a direction": ('; filename="\u05d0\u200f.txt"', "\u05d0\u200f.txt"),
}


@pytest.mark.parametrize(("disposition", "name"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_name_is_the_one_that_the_client_means(record, disposition, name):
    assert sent(record, disposition)["filename"] == name


REFUSED = {
    "a quote in quotes": '; filename="a"b.txt"',
    "quotes that do not close": '; filename="a.txt',
    "text after the quotes": '; filename="a" b.txt',
    "a semicolon without quotes": "; filename=a;b.txt",
    "a parameter in a name without quotes": "; filename=a;b=c.txt",
    "an unknown charset": '; filename="=?x-y?B?YQ==?="',
    "a charset that is none": '; filename="=?zlib?B?YQ==?="',
    "an ISO 8859 that does not exist": '; filename="=?iso-8859-12?Q?a?="',
    "lone surrogates": '; filename="=?unicode_escape?Q?=5Cud800?="',
    "no base64": '; filename="=?utf-8?B?Y*==?="',
    "no UTF-8": '; filename="=?utf-8?Q?=FF?="',
    "no ASCII in Q": '; filename="=?utf-8?Q?é?="',
    "filename* in several": "; filename*0*=UTF-8''a; filename*1=.txt",
}


@pytest.mark.parametrize("disposition", REFUSED.values(), ids=REFUSED.keys())
def test_a_name_that_cannot_be_decoded_is_refused_not_cut(record, disposition):
    answer = sent(record, disposition, 400)

    assert answer["errno"] == 107
    assert "ilename" in answer["message"]
    assert record.files() == []


def test_the_extension_and_the_type_are_those_of_the_decoded_name(make_record):
    record = make_record(attachment={"extensions": "png", "randomize": "false"})

    answer = sent(record, f'; filename="{b("écran 1.png")}"')

    assert answer["mimetype"] == "image/png"
    assert answer["location"].endswith("/ecran_1.png")


def test_an_extension_does_not_hide_in_an_encoded_word(make_record):
    record = make_record(attachment={"extensions": "png"})

    assert "extension" in sent(record, f'; filename="{b("a.exe")}"', 400)["message"]


@pytest.mark.parametrize(
    ("name", "decoded"),
    [
        ("first%20%C3%A9%20paper.txt", "first é paper.txt"),
        ("a%2Bb.txt", "a%2Bb.txt"),
        ("100%0Apple.pdf", "100%0Apple.pdf"),
        ("\u202egnp.txt", "gnp.txt"),
    ],
)
def test_a_resumable_upload_has_the_same_name(record, name, decoded):
    upload = begin(record, 1, Upload_Metadata=metadata(filename=name))
    upload.patch(0, b"x")

    assert record.data["attachment"]["filename"] == decoded


@pytest.mark.parametrize("header", ["Content-Transfer-Encoding", "Content-Encoding"])
@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable", "gzip", "nonsense"])
def test_an_encoded_part_is_never_stored_as_if_it_were_the_file(record, header, encoding):
    part = f"{header}: {encoding}\r\n".encode() + file_part(b"Y29udGVudA==")

    answer = record.send(part, status=400).json

    assert answer["errno"] == 107
    assert f"'attachment' has the {header}" in answer["message"]
    assert record.files() == []


@pytest.mark.parametrize("encoding", ["binary", "8BIT", "7bit"])
def test_a_part_that_is_not_encoded_may_say_so(record, encoding):
    record.send(f"Content-Transfer-Encoding: {encoding}\r\n".encode() + file_part(b"content"))

    assert record.content == b"content"

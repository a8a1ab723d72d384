"""The headers of tus: what they are read as, and which are refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from kinto_attachment.errors import InvalidHeader
from kinto_attachment.tus import headers as tus_headers


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_pairs_of_metadata():
    text = f"filename {encoded(b'a b.txt')},is_draft,empty ,  filetype {encoded(b'text/plain')}"

    assert tus_headers.metadata(text) == {
        "filename": b"a b.txt",
        "is_draft": b"",
        "empty": b"",
        "filetype": b"text/plain",
    }


@pytest.mark.parametrize("text", ["", " "])
def test_no_metadata(text):
    assert tus_headers.metadata(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a YQ==,",
        " YQ==,",
        "a YQ==,,b YQ==",
        "a YQ==,a YQ==",
        "a YQ",
        "a Y Q==",
        "a  YQ==",
        "a *",
        "a \xe9",
        "\xe9 YQ==",
        "a\t YQ==",
        "a\0b YQ==",
    ],
)
def test_metadata_that_is_not_well_formed(text):
    with pytest.raises(InvalidHeader, match="^Upload-Metadata"):
        tus_headers.metadata(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("100", 100), ("007", 7)])
def test_a_number_of_bytes(text, value):
    assert tus_headers.number({"Upload-Offset": text}, "Upload-Offset") == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "\u0661", "9" * 19, "x"])
def test_a_number_that_is_none(text):
    with pytest.raises(InvalidHeader, match="^Upload-Offset"):
        tus_headers.number({"Upload-Offset": text}, "Upload-Offset")


def test_the_length_now_or_later():
    assert tus_headers.length({"Upload-Length": "5"}) == 5
    assert tus_headers.length({"Upload-Defer-Length": "1"}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "5", "Upload-Defer-Length": "1"},
        {"Upload-Defer-Length": "0"},
        {"Upload-Defer-Length": ""},
        {"Upload-Length": "x"},
    ],
)
def test_a_length_that_is_none(headers):
    with pytest.raises(InvalidHeader, match="Upload-"):
        tus_headers.length(headers)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum(algorithm):
    digest = hashlib.new(algorithm, b"content").digest()

    checksum = tus_headers.checksum({"Upload-Checksum": f"{algorithm} {encoded(digest)}"})

    hashed = checksum.start()
    assert not checksum.matches(hashed)
    hashed.update(b"content")
    assert checksum.matches(hashed)


def test_no_checksum():
    assert tus_headers.checksum({}) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha1",
        "sha1 ",
        "sha1 YQ==",
        "sha1 *",
        "md5 XUFAKrxLKna5cZ2REBfFkg==",
        "SHA1 YQ==",
        "\xe9",
    ],
)
def test_a_checksum_that_is_none(text):
    with pytest.raises(InvalidHeader, match="^Upload-Checksum"):
        tus_headers.checksum({"Upload-Checksum": text})


def test_the_digest_of_the_whole_file():
    digest = hashlib.sha256(b"content").hexdigest()

    assert tus_headers.sha256(digest.upper().encode()) == digest


@pytest.mark.parametrize(
    "value", [b"", b"0" * 63, b"0" * 65, b"g" * 64, b"0" * 64 + b"\n", b"\xff"]
)
def test_a_digest_that_is_none(value):
    with pytest.raises(InvalidHeader, match="sha256"):
        tus_headers.sha256(value)

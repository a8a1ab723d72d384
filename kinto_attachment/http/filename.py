"""The name that a client gives a file, decoded from every form that clients send it in."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from urllib.parse import quote, unquote, unquote_to_bytes

from kinto_attachment.errors import MalformedForm

_PARAMETER = re.compile(
    r"[\s;]*;\s*(?P<name>[^\s=;\"]+)\s*=\s*"
    # Some clients escape a quote, most leave backslashes as they are.
    r"(?:\"(?P<quoted>(?:\\\"|[^\"])*)\"\s*|(?P<bare>[^;\"]*))(?=;|$)",
    re.DOTALL,
)
# RFC 2183, section 2: what may follow a name that has no quotes.
_KNOWN = ("name", "filename", "filename*", "size")
# RFC 5987, section 3.2: charset'language'value.
_EXTENDED = re.compile(r"([^']*)'[^']*'([^\s'\"]*)")
# RFC 2047, section 2, with the language of RFC 2231, section 5.
_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
# Space between two of them is part of neither.
_WORDS = re.compile(rf"(?:{_WORD.pattern}\s+(?==\?))*{_WORD.pattern}")
# Python's other codecs are slow, or make lone surrogates.
_CHARSET = re.compile(
    r"utf-8|us-ascii|iso-8859-[0-9]{1,2}|windows-125[0-9]|koi8-[ru]|shift_jis|euc-(?:jp|kr)"
    r"|iso-2022-(?:jp|kr)|gb(?:2312|k|18030)|big5",
    re.IGNORECASE,
)
# What encodeURIComponent() leaves, beside what quote() does.
# https://tc39.es/ecma262/#sec-encodeuricomponent-uricomponent
_UNENCODED = "!*'()"
# They reverse what a reader sees, the extension too. https://www.unicode.org/reports/tr9/
_BIDI_CONTROLS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def clean_filename(sent: str) -> str:
    """Return the name without folders and control characters. Raises ``MalformedForm``."""
    name = re.split(r"[/\\]", sent)[-1]
    # Line and paragraph separators break lines as control characters do.
    name = "".join(
        c
        for c in name
        if unicodedata.category(c) not in ("Cc", "Zl", "Zp") and c not in _BIDI_CONTROLS
    )
    if name.strip() in ("", ".", ".."):
        raise MalformedForm("body: Filename is required.")
    return name


def decode_component(name: str) -> str:
    """Decode what is exactly the output of JavaScript's ``encodeURIComponent()``, as Kinto Admin
    and kinto-http.js send it; return any other name unchanged.

    A single ``%41`` or ``%2B`` does not count: files are called so, too.
    """
    try:
        decoded = unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name
    is_encoded = "%20" in name or not decoded.isascii()
    return decoded if is_encoded and quote(decoded, safe=_UNENCODED) == name else name


def sent_filename(disposition: str) -> str | None:
    """Return the filename of a ``Content-Disposition``, decoded; ``None`` if it has none.

    ``filename*`` (RFC 5987) comes first where it is well-formed: besides it, clients send a
    ``filename`` of question marks, or of encoded words. Raises ``MalformedForm``.
    """
    parameters = dict(_parameters(disposition))
    extended, plain = _extended(parameters.get("filename*", "")), parameters.get("filename")
    if extended:
        return extended
    if plain is None:
        if any(name.startswith("filename*") for name in parameters):
            raise _undecodable()
        return None
    if _WORD.search(plain):
        return _WORDS.sub(lambda words: _decode_words(words[0]), plain)
    decoded = decode_component(plain)
    # Browsers encode quotes and line breaks so. A lone "%0A" is rather a part of the name.
    # https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
    return decoded if decoded != plain else plain.replace("%22", '"').replace("%0D%0A", "")


def _parameters(disposition: str) -> Iterator[tuple[str, str]]:
    position = disposition.find(";")
    rest = disposition[position:] if position >= 0 else ""
    position = 0
    is_bare = False
    while rest[position:].strip("; \t"):
        match = _PARAMETER.match(rest, position)
        name = match["name"].lower() if match else ""
        if match is None or (is_bare and name not in _KNOWN):
            raise MalformedForm("body: Content-Disposition is malformed: quote the filename.")
        position = match.end()
        if match["quoted"] is None:
            is_bare = is_bare or name == "filename"
            yield name, match["bare"].strip()
        else:
            yield name, _unescaped(match["quoted"])


def _unescaped(quoted: str) -> str:
    if '\\"' not in quoted:
        return quoted
    return quoted.replace("\\\\", "\\").replace('\\"', '"')


def _extended(value: str) -> str | None:
    match = _EXTENDED.fullmatch(value)
    if match is None:
        return None
    try:
        return _decoded(unquote_to_bytes(match[2]), match[1])
    except MalformedForm:
        return None


def _decode_words(text: str) -> str:
    words = [(word[1].lower(), _word_bytes(word[2], word[3])) for word in _WORD.finditer(text)]
    # A character may be cut by the end of a word.
    return "".join(
        _decoded(b"".join(content for _, content in of_charset), charset)
        for charset, of_charset in groupby(words, key=lambda word: word[0])
    )


def _word_bytes(encoding: str, text: str) -> bytes:
    try:
        if encoding in "qQ":
            return binascii.a2b_qp(text, header=True)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _undecodable() from None


def _decoded(content: bytes, charset: str) -> str:
    try:
        if _CHARSET.fullmatch(charset):
            return content.decode(charset)
    except (LookupError, UnicodeDecodeError):
        # No ISO-8859 has the number 12.
        pass
    raise _undecodable()


def _undecodable() -> MalformedForm:
    return MalformedForm("body: Filename cannot be decoded.")

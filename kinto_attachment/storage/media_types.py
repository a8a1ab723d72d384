"""The media type of a file: from its extension, from what the client says, or guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from kinto_attachment.storage.media_type_table import BY_EXTENSION

DEFAULT = "application/octet-stream"

# RFC 6838, section 4.2: the "restricted-name" on both sides of the slash.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")
# HTML, XML and JavaScript under their names of today and of the past, what is made of parts of
# any type, and types that browsers replace by what they find in the content.
# https://mimesniff.spec.whatwg.org/#mime-type-groups
_RUNS = re.compile(
    r".*\+xml|.*/(?:(?:x-)?(?:java|ecma|j|live)script[0-9.]*|xml(?:-.*)?|xsl|xslt|html|xhtml)"
    r"|image/svg.*|text/(?:cache-manifest|x-component)|application/(?:hta|x-shockwave-flash)"
    r"|(?:message|multipart)/.*|(?:application|unknown)/unknown"
)


def is_media_type(text: str) -> bool:
    """Whether ``text`` is a media type without parameters, such as ``image/png``."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def media_type(
    filename: str,
    declared: str | None,
    by_extension: Mapping[str, str],
    *,
    believe_scripts: bool = True,
) -> str:
    """Return the media type of a file: that of its extension in ``by_extension`` (``{".db":
    "..."}``), else the ``declared`` one if it is well-formed, else ``guess()``.

    Without ``believe_scripts``, a declared type that browsers run scripts of does not count.
    """
    extension = PurePosixPath(filename).suffix.lower()
    if extension in by_extension:
        return by_extension[extension]
    if declared and is_media_type(declared) and (believe_scripts or not runs_scripts(declared)):
        return declared
    return guess(filename)


def guess(filename: str) -> str:
    """Return the media type of the extension, the same on every machine."""
    return BY_EXTENSION.get(PurePosixPath(filename).suffix[1:].lower(), DEFAULT)


def runs_scripts(media_type: str) -> bool:
    """Whether a browser that opens a file of this type may run scripts in it."""
    return _RUNS.fullmatch(media_type.lower()) is not None

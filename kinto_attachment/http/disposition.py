"""``Content-Disposition`` of a download (RFC 6266): shown in the browser or saved, and as what."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

from kinto_attachment.storage.media_types import runs_scripts

# RFC 8187, section 3.2.1: what an extended value has as it is, beside letters and digits.
_ATTR_CHAR = "!#$&+-.^_`|~"
_SHOWN_KINDS = ("image", "audio", "video")
_SHOWN_TYPES = ("application/pdf", "text/plain")


def may_be_shown(mimetype: str) -> bool:
    """Whether a browser may show such a file: it runs no script of it in the page's origin."""
    essence = mimetype.partition(";")[0].strip().lower()
    return essence in _SHOWN_TYPES or (
        essence.partition("/")[0] in _SHOWN_KINDS and not runs_scripts(essence)
    )


def content_disposition(filename: str, *, inline: bool) -> str:
    """Return the header, with a ``filename`` in ASCII and a ``filename*`` in UTF-8."""
    kind = "inline" if inline else "attachment"
    extended = quote(filename, safe=_ATTR_CHAR, errors="replace")
    return f"{kind}; filename=\"{_ascii(filename)}\"; filename*=UTF-8''{extended}"


def _ascii(filename: str) -> str:
    """Leave accents out, and stand in for other characters that some clients misunderstand: see
    appendix D."""
    decomposed = unicodedata.normalize("NFKD", filename)
    letters = [char for char in decomposed if not unicodedata.combining(char)]
    return "".join(c if " " <= c <= "~" and c not in '"\\%/' else "_" for c in letters)

"""``Content-Disposition`` of downloads: RFC 6266, and nothing that breaks the header."""

from __future__ import annotations

import pytest

from kinto_attachment.http.disposition import content_disposition, may_be_shown


@pytest.mark.parametrize(
    ("filename", "ascii_name", "encoded"),
    [
        ("a.txt", "a.txt", "a.txt"),
        ('a"b\\c%41.txt', "a_b_c_41.txt", "a%22b%5Cc%2541.txt"),
        ("a\r\nX: y", "a__X: y", "a%0D%0AX%3A%20y"),
        ("a/b\x7f\x00", "a_b__", "a%2Fb%7F%00"),
        ("Zoë ﬁ½.txt", "Zoe fi1_2.txt", "Zo%C3%AB%20%EF%AC%81%C2%BD.txt"),
        ("\ud800.txt", "_.txt", "%3F.txt"),
        ("", "", ""),
    ],
)
def test_both_forms_of_a_filename(filename, ascii_name, encoded):
    expected = f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"

    assert content_disposition(filename, inline=False) == expected


@pytest.mark.parametrize(
    ("mimetype", "shown"),
    [
        ("image/png", True),
        ("IMAGE/PNG", True),
        ("text/plain; charset=utf-8", True),
        ("video/x-thing", True),
        ("application/pdf", True),
        ("image/svg+xml", False),
        ("image/SVG+xml ; x=y", False),
        ("image/svg", False),
        ("image/x-thing+xml", False),
        ("text/html", False),
        ("text/xml", False),
        ("application/octet-stream", False),
        ("", False),
    ],
)
def test_what_browsers_may_show(mimetype, shown):
    assert may_be_shown(mimetype) == shown

"""Which file a location may mean."""

from __future__ import annotations

import pytest

from kinto_attachment.attachments.locations import last_segments, may_be_same_file, names_in


@pytest.mark.parametrize(
    ("location", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("b/c/a.txt", ["b/c/a.txt", "c/a.txt", "a.txt"]),
        ("/files/a.txt", ["files/a.txt", "a.txt"]),
        (
            "https://cdn.example.org/files/a.txt",
            ["cdn.example.org/files/a.txt", "files/a.txt", "a.txt"],
        ),
        ("https://cdn.example.org//a.txt", ["a.txt"]),
        ("x/a%20b.txt", ["x/a%20b.txt", "a%20b.txt", "x/a b.txt", "a b.txt"]),
        ("x%2Fa.txt", ["x%2Fa.txt", "x/a.txt", "a.txt"]),
        ("a/", []),
        ("", []),
        (None, []),
        (5, []),
    ],
)
def test_names_stand_at_the_end_of_a_location(location, names):
    assert sorted(names_in(location)) == sorted(names)
    assert names_in(location) == sorted(names_in(location), key=len, reverse=True)


def test_a_location_of_many_segments_means_only_short_names():
    found = names_in("/".join(["x"] * 100_000))

    assert len(found) == 20


def test_a_location_may_end_with_the_name_raw_or_percent_encoded():
    assert last_segments("folder/a.txt") == ["a.txt"]
    assert last_segments("a b.txt") == ["a b.txt", "a%20b.txt"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"hash": "a"}, {"hash": "a"}, True),
        ({"hash": "a"}, {"hash": "b"}, False),
        ({}, {"hash": "b"}, True),
        ({"hash": "a"}, {"hash": None}, True),
    ],
)
def test_a_file_with_another_hash_is_another_file(one, other, same):
    assert may_be_same_file(one, other) is same

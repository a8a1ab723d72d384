"""Patterns of names: ``--exclude`` and ``--foreign``."""

from __future__ import annotations

import pytest

from kinto_attachment.commands import main
from tests.support.orphans import ANOTHER, STRAY, grow_old, names

SAME = ["bundles", "bundles/", "./bundles/*", "/bundles/*", "bundles/*", ".//bundles/./*"]


@pytest.fixture
def attached(record):
    """A record with a file, and strays in two folders."""
    record.attach(b"content")
    for name in (f"bundles/{STRAY}", f"bundles/deep/{STRAY}", f"bundles-old/{ANOTHER}"):
        path = record.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"stray")
    grow_old(record)
    return record


@pytest.mark.parametrize("pattern", SAME)
def test_a_folder_may_be_written_in_several_ways(attached, command, pattern):
    result = command("gc", "--delete", "--json", f"--exclude={pattern}")

    assert names(result) == [f"bundles-old/{ANOTHER}"]
    assert result.counts["files excluded"] == 2
    assert [count for name, count in result.counts.items() if name.startswith("excluded by")] == [
        2
    ]


@pytest.mark.parametrize("pattern", ["*.txt", "bundles*", "b*/*", "*/0d1b*"])
def test_a_pattern_goes_through_folders(attached, command, pattern):
    result = command("gc", "--json", f"--exclude={pattern}")

    assert names(result) == []


def test_each_pattern_tells_how_many_files_it_met(attached, command):
    options = [f"--exclude={pattern}" for pattern in ("bundles", "bundles/deep", "typo/*")]

    counts = command("check", "--json", "--older-than=0s", *options).counts

    told = {name: count for name, count in counts.items() if name.startswith("excluded by ")}
    assert told == {
        "excluded by bundles": 2,
        "excluded by bundles/deep": 1,
        "excluded by typo/*": 0,
    }


@pytest.mark.parametrize("pattern", ["", "/", ".", "../files/*", "a/../b"])
@pytest.mark.parametrize("option", ["exclude", "foreign"])
def test_what_no_name_can_match_is_refused(pattern, option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["gc", f"--{option}={pattern}"])

    assert stopped.value.code == 2
    assert "should be the name of a file or a folder" in capsys.readouterr().err

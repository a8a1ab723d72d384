"""What clients and other programs have written is printed so that it can be seen, and does nothing
to a terminal."""

from __future__ import annotations

import io
import json
import logging

import pytest

from kinto_attachment.commands.report import PrintableFormatter, Report, printable
from tests.support.orphans import STRAY, grow_old

OLD = "https://files.example.org/"
NEW = "https://new.example.org/"
MOVED = {"base_url": NEW, "former_base_urls": OLD}

# Escape sequences, line breaks, a changed direction of writing, a bell, a C1 control.
EVIL = "\x1b[2J\x1b]0;pwned\x07\r\nall is well\u2028\u202egnp.\u2066\x9b31m\x7f\u00ad"
ESCAPED = "\\x1b[2J\\x1b]0;pwned\\x07\\r\\nall is well\\u2028\\u202egnp.\\u2066\\x9b31m\\x7f\\xad"


def is_harmless(text):
    return all(character.isprintable() or character == "\n" for character in text)


def lines(result):
    return (result.output + result.errors).splitlines()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ü, 日本.txt", "plain text, ü, 日本.txt"),
        (EVIL, ESCAPED),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("a\u00a0b\u200b", "a\\xa0b\\u200b"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_only_what_can_be_seen_is_printed(text, shown):
    assert printable(text) == shown


def test_what_the_terminal_cannot_show_is_escaped():
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    Report("check", as_json=False, output=output).finding("日本.txt is missing")

    output.seek(0)
    assert output.read() == "\\u65e5\\u672c.txt is missing\n"


def test_json_has_no_control_characters():
    output = io.StringIO()
    report = Report("check", as_json=True, output=output)
    report.finding("", name=EVIL)
    report.close({EVIL: 1}, ok=True)

    assert is_harmless(output.getvalue())
    assert json.loads(output.getvalue())["findings"] == [{"name": EVIL}]


def test_a_log_is_harmless():
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s failed", (EVIL,), info)

    text = PrintableFormatter("%(levelname)s %(message)s").format(record)

    assert is_harmless(text)
    assert text.startswith(f"ERROR {ESCAPED} failed\nTraceback")
    assert "\n    raise ValueError(EVIL)\n" in text


def test_check_prints_the_names_and_urls_of_others_harmlessly(record, command):
    record.attach(b"content")
    [name] = record.files()
    record.other().create(attachment={"location": f"https://{EVIL}/{name}"})

    result = command("check")

    assert is_harmless(result.output)
    [told] = [line for line in lines(result) if name not in line and "unknown" not in line][:1]
    assert "1 records show files under" in told
    assert "pwned" in told


def test_gc_prints_the_names_of_foreign_files_harmlessly(record, command):
    record.attach(b"content")
    evil = "\x1b[2J\nall is well\u202e.txt"
    (record.folder / evil).write_bytes(b"foreign")
    grow_old(record)

    told = command("gc")

    assert is_harmless(told.output)
    assert "\\x1b[2J\\nall is well\\u202e.txt is foreign" in told.output
    assert command("gc", "--delete", f"--foreign={evil}").status == 0
    assert len(record.files()) == 1


def test_an_error_is_printed_harmlessly(command, tmp_path):
    file = tmp_path / "file\x1b[2J"
    file.touch()

    result = command("check", attachment={"base_path": str(file)})

    assert result.status == 2
    assert is_harmless(result.errors)
    assert "\\x1b[2J" in result.errors


@pytest.fixture
def broken(record):
    """A record whose id ends in a line break, which Kinto takes, and others around it."""
    for record_id in ("a", "b%0A", "c"):
        record.other(record_id).create(attachment={"location": f"{OLD}x.txt"})
    return record


def test_rebase_writes_records_whatever_their_ids_are(broken, command):
    arguments = ("rebase", "--from", OLD, "--to", NEW, "--write", "--json")

    result = command(*arguments, attachment=MOVED)

    assert result.status == 0
    assert result.counts["records written"] == 3
    for record_id in ("a", "b%0A", "c"):
        location = broken.other(record_id).data["attachment"]["location"]
        assert location == f"{NEW}x.txt"


def test_rebase_prints_locations_and_ids_harmlessly(broken, command):
    broken.create(attachment={"location": f"{OLD}{EVIL}"})

    result = command("rebase", "--from", OLD, "--to", NEW, attachment=MOVED)

    assert is_harmless(result.output)
    assert f"{OLD}{ESCAPED} -> {NEW}{ESCAPED}\n" in result.output
    assert "records/b\\n: " in result.output


def test_check_repairs_the_row_of_a_record_whose_id_ends_in_a_line_break(record, command, execute):
    record.attach(b"content")
    record.other("b%0A").create(attachment=record.data["attachment"])
    execute("UPDATE objects SET data = data || '{\"holders\": []}' WHERE data ? 'holders'")

    told = command("check")

    assert told.status == 1
    assert is_harmless(told.output)
    assert command("check", "--repair").status == 0
    assert command("check", "--json").findings == []


def test_a_stray_is_told_on_one_line(record, command):
    record.attach(b"content")
    (record.folder / STRAY).write_bytes(b"stray")

    told = command("gc", "--older-than=0s")

    assert lines(told)[0] == f"{STRAY} would be deleted (stray, 5 bytes)"

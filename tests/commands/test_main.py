"""The command line itself."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kinto_attachment.commands import _parser, main


def help_of(*arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_names_the_commands(capsys):
    text = help_of(capsys=capsys)

    commands = ("check", "copy", "detach", "gc", "preflight", "publish", "rebase", "restore")
    for command in (*commands, "withdraw", "--ini"):
        assert command in text


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "check",
            [
                "--hash",
                "--repair",
                "--missing",
                "--older-than",
                "--exclude",
                "--json",
                "--metrics",
            ],
        ),
        ("copy", ["--to-ini", "--dry-run", "--json"]),
        ("detach", ["LIST", "--write", "--allow-many", "--json"]),
        ("gc", ["--delete", "--older-than", "--kept-older-than", "--exclude", "--json"]),
        ("preflight", ["--json"]),
        ("publish", ["BUCKET", "COLLECTION", "--write", "--json"]),
        ("rebase", ["--from", "--to", "--write", "--json"]),
        ("restore", ["FILE", "--dry-run", "--json"]),
        ("withdraw", ["BUCKET", "COLLECTION", "--write", "--json"]),
    ],
)
def test_every_command_explains_itself(command, options, capsys):
    text = help_of(command, capsys=capsys)

    for option in options:
        assert option in text
    assert "Exit status" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["gc", "--older-than=5"],
        ["gc", "--older-than=-1h"],
        ["rebase", "--from=x", "--to="],
        ["rebase", "--to="],
        ["withdraw", "b"],
        ["copy"],
    ],
)
def test_arguments_that_cannot_be_right_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_configuration_that_is_not_there(capfd):
    assert main(["--ini", "nowhere.ini", "check"]) == 2
    assert "nowhere.ini" in capfd.readouterr().err


def test_the_memory_of_another_process_cannot_be_read(command):
    settings = {"kinto.storage_backend": "kinto.core.storage.memory", "kinto.storage_url": None}

    result = command("gc", "--delete", **settings)

    assert result.status == 2
    assert "kinto.storage_backend" in result.errors


def test_a_server_without_the_plugin(command):
    result = command("check", **{"kinto.includes": None})

    assert result.status == 2
    assert "kinto.includes" in result.errors


def test_a_database_that_does_not_answer(command, postgresql):
    url = postgresql.url_of("nothing")
    settings = {"kinto.storage_url": url, "kinto.permission_url": url}

    result = command("gc", "--delete", **settings)

    assert result.status == 2
    assert "kinto-attachment: the database cannot be read: " in result.errors


def test_a_storage_that_does_not_answer(record, command, monkeypatch):
    aws = {
        "base_path": None,
        "aws.bucket": "files",
        "aws.endpoint_url": "http://127.0.0.1:1/",
        "aws.access_key": "a",
        "aws.secret_key": "b",
        "aws.num_retries": "0",
    }

    result = command("gc", "--delete", attachment=aws)

    assert result.status == 2
    assert "cannot list the files" in result.errors


def test_the_command_is_installed(record, make_ini):
    record.attach(b"content")
    command = [sys.executable, "-m", "kinto_attachment.commands", "--ini", str(make_ini())]

    done = subprocess.run([*command, "check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "records with a file" in done.stdout


def test_it_is_a_module_that_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kinto-attachment", "--help"])

    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("kinto_attachment.commands", run_name="__main__")

    assert stopped.value.code == 0
    assert "rebase" in capsys.readouterr().out


def readme_commands():
    readme = (Path(__file__).parents[2] / "README.rst").read_text()
    return [
        line.split("kinto-attachment", 1)[1]
        for line in re.findall(r"^    kinto-attachment .*", readme, re.M)
    ]


@pytest.mark.parametrize("arguments", readme_commands())
def test_the_commands_of_the_readme_are_understood(arguments):
    options = _parser().parse_args(shlex.split(arguments))

    assert options.ini == "kinto.ini"

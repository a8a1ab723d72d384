"""The command line itself."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from kinto_attachment import commands
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
        ["gc", "--metrics="],
        ["gc", "--metrics=/"],
        ["check", "--metrics=.."],
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


INI = """\
[app:main]
use = egg:kinto
kinto.includes = kinto_attachment
kinto.attachment.base_path = /nowhere
kinto.userid_hmac_secret = b4c96a8692291d88fe5a97dd91846eb4
"""


@pytest.mark.parametrize("command", ["usage", "preflight"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[app:main", "no section headers"),
        ("[app:other]\n", "No section 'main'"),
        (f"{INI}kinto.storage_backend = nowhere\n", "No module named 'nowhere'"),
        (
            f"{INI}kinto.storage_backend = kinto.core.storage.postgresql\nkinto.storage_url = x\n",
            "the database cannot be read",
        ),
    ],
    ids=["no section", "no application", "no module", "no URL"],
)
def test_a_configuration_that_cannot_be_right(command, text, words, tmp_path, capfd):
    path = tmp_path / "kinto.ini"
    path.write_text(text)

    assert main(["--ini", str(path), command]) == 2

    errors = capfd.readouterr().err
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["usage", "preflight"])
def test_a_password_with_a_percent_sign_is_not_printed(command, tmp_path, capfd):
    path = tmp_path / "kinto.ini"
    path.write_text(f"{INI}kinto.storage_url = postgresql://u:se%40cret@localhost/kinto\n")

    assert main(["--ini", str(path), command]) == 2

    errors = capfd.readouterr().err
    assert "kinto.storage_url has a %" in errors
    assert "cret@" not in errors


@pytest.fixture
def ends_with(monkeypatch):
    """``ends_with(error)``: the command ``check`` raises it."""
    monkeypatch.setattr(commands, "_open_site", lambda ini: nullcontext())

    def ends_with(error):
        def run(*arguments):
            raise error

        monkeypatch.setattr(commands.check, "run", run)

    return ends_with


def test_who_interrupts_a_command_is_told_on_one_line(ends_with, tmp_path, capsys):
    ends_with(KeyboardInterrupt())
    metrics = tmp_path / "check.prom"

    assert main(["check", "--metrics", str(metrics)]) == 130

    assert capsys.readouterr().err == "kinto-attachment: interrupted\n"
    assert not metrics.exists()


def test_a_failure_that_nobody_expects_is_no_finding(ends_with, tmp_path, capsys, caplog):
    ends_with(RuntimeError("bad luck"))
    metrics = tmp_path / "check.prom"

    assert main(["check", "--metrics", str(metrics)]) == 2

    assert "RuntimeError: bad luck" in caplog.text
    assert 'command_status{command="check"} 2\n' in metrics.read_text()


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
    assert "\\n" not in result.errors.splitlines()[-1]


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

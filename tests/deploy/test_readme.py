"""README.rst of deploy/: an operator who types what stands there has the site.

What changes this machine (packages, users, units) is done by programs of that name that only
write down what they were asked. The rest is done, with ``/etc`` and ``/opt`` elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deploy.installation import BUCKETS, DEPLOY, PROGRAMS
from tests.support.documents import CHECKOUT, blocks
from tests.support.servers.postgresql import PostgreSQL

BLOCKS = [block for block in blocks(DEPLOY / "README.rst") if not block.language]
(PACKAGES, DATABASE, START, ON_S3) = (
    block.text for block in BLOCKS if block.section == "Set it up"
)
PASSWORD = "a password of one's own"

NOTED = ("apt-get", "chown", "nginx", "systemctl", "systemd-tmpfiles", "useradd", "weed")
NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$NOTES"\n'
IMITATED = {
    "python3": '#!/bin/sh\n# -m venv FOLDER\nmkdir -p "$3" && ln -s "$PROGRAMS" "$3/bin"\n',
    "su": '#!/bin/sh\n# postgres -c COMMAND\nexec sh -c "$3"\n',
    "systemd-run": """#!/bin/sh
while :; do
    echo "systemd-run $*" >> "$NOTES"
    case $1 in
        -p) set -a; . "${2#EnvironmentFile=}"; shift 2 ;;
        --*) shift ;;
        *) exec "$@" ;;
    esac
done
""",
}


class Machine:
    """What stands for a new Debian: its folders below ``root``, and what was asked of it."""

    def __init__(self, root: Path, server: PostgreSQL) -> None:
        self.root = root
        self.server = server
        self._notes = root / "notes"
        self._notes.touch()
        (root / "etc").mkdir()
        (root / "bin").mkdir()
        for name, text in {**dict.fromkeys(NOTED, NOTE), **IMITATED}.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)

    def type(self, commands: str, stdin: str = "") -> str:
        """Type it in a checkout. Returns what it printed; it has to succeed."""
        commands = re.sub(r"(?<!\w)/(?=(etc|opt)\b)", f"{self.root}/", commands)
        path = [self.root / "bin", self.server.programs, PROGRAMS, os.environ["PATH"]]
        given = {
            "PATH": os.pathsep.join(map(str, path)),
            "NOTES": str(self._notes),
            "PROGRAMS": str(PROGRAMS),
            "PGHOST": str(self.server.directory),
            "PGUSER": "postgres",
            # pip finds out whether all is there, and installs nothing.
            "PIP_DRY_RUN": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=self.root / "checkout",
            env={**os.environ, **given},
            input=stdin,
            capture_output=True,
            text=True,
            # Without a terminal, passwords are read from there.
            start_new_session=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def asked(self, program: str) -> list[str]:
        """The arguments with which that program was called."""
        lines = [line.split(" ", 1) for line in self._notes.read_text().splitlines()]
        return [arguments for name, arguments in lines if name == program]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    (root / "checkout").mkdir()
    for name in ("kinto_attachment", "deploy"):
        shutil.copytree(CHECKOUT / name, root / "checkout" / name)
    for name in ("setup.py", "pyproject.toml", "README.rst", "CHANGELOG.rst", "LICENSE"):
        shutil.copy(CHECKOUT / name, root / "checkout")
    with PostgreSQL() as server:
        yield Machine(root, server)


def test_what_stands_there_sets_it_up(machine):
    machine.type(PACKAGES)
    machine.type(DATABASE)
    environment = machine.root / "etc/kinto/kinto.env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o640
    assert machine.asked("chown") == [f"root:kinto {environment}"]
    sockets = "host=/var/run/postgresql"
    assert sockets in environment.read_text()
    changed = environment.read_text().replace(sockets, f"host={machine.server.directory}")
    environment.write_text(changed.replace("/etc/", f"{machine.root}/etc/"))
    machine.type(START, stdin=f"{PASSWORD}\n{PASSWORD}\n")

    assert "--system kinto" in machine.asked("useradd")
    (folders,) = machine.asked("systemd-tmpfiles")
    assert (machine.root / "etc/tmpfiles.d" / folders.removeprefix("--create ")).exists()
    # The database has the time zone that Kinto wants, its tables, and the admin.
    with machine.server.connect("kinto") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW timezone")
        assert cursor.fetchone() == ("UTC",)
        cursor.execute("SELECT id FROM objects WHERE resource_name = 'account'")
        assert cursor.fetchall() == [("admin",)]
    # The units that are enabled are those that are there.
    units = {path.name for path in (machine.root / "etc/systemd/system").iterdir()}
    enabled = " ".join(machine.asked("systemctl")).replace("8001", "").split()
    assert {"kinto@", "kinto-attachment-check.timer", "kinto-attachment-gc.timer"} <= {*enabled}
    assert {name for name in enabled if name.endswith(".timer")} <= units
    assert "kinto@.service" in units


def test_no_secret_is_on_a_command_line_or_the_same_everywhere(machine):
    assert PASSWORD not in "\n".join(machine.asked("systemd-run"))
    for path in [DEPLOY / "README.rst", *(DEPLOY / "etc").rglob("*")]:
        assert path.is_dir() or b"change-me" not in path.read_bytes()


def test_a_newer_version_overwrites_nothing(machine):
    changed = [machine.root / f"etc/kinto/{name}" for name in ("kinto.env", "kinto.ini")]
    for path in changed:
        path.write_text(f"{path.read_text()}# Mine.\n")
    added = machine.root / "etc/kinto/heartbeat.py"
    added.unlink()
    (secrets,) = re.findall(r"^cp .*\ndeploy/make-secrets .*$", PACKAGES, re.MULTILINE)
    machine.type(secrets)

    assert all(path.read_text().endswith("# Mine.\n") for path in changed)
    assert added.exists()


def test_what_stands_there_gives_it_a_store(machine):
    commands = ON_S3.replace("/opt/kinto/bin/weed", "weed")

    machine.type("cp --recursive deploy/etc/. /etc/ && deploy/make-secrets /etc")
    machine.type(f"test -e /opt/kinto/bin || python3 -m venv /opt/kinto\n{commands}")

    assert machine.asked("systemctl")[-1] == "enable --now seaweedfs"
    assert machine.asked("weed") == 2 * ["shell -master=127.0.0.1:9333"]
    for bucket in BUCKETS:
        assert f'echo "s3.bucket.create -name {bucket}" | ' in commands


def test_every_command_has_a_test():
    sections = [block.section for block in BLOCKS]

    # The others are a picture, TLS (test_tls.py), a restart (test_restarts.py), and a crontab
    # (test_operations.py).
    assert sections == [
        *("A production set-up", *4 * ["Set it up"]),
        *("TLS", "How uploads go", "What runs by the clock"),
    ]

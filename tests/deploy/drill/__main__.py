"""Run it, as root, on Debian: ``make drill``. It takes about ten minutes, and exits with 1 if a
file is lost, or something does not do what deploy/README.rst says."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.drill.load import BUCKET, Load, Site
from tests.deploy.drill.machine import NAMESPACE, PACKAGES, Machine
from tests.support.documents import CHECKOUT, blocks

FOLDER = CHECKOUT / "build" / "drill"
README = CHECKOUT / "deploy" / "README.rst"
NODES = ("kinto@8001", "kinto@8002")
MAINTENANCE = ("kinto-attachment-gc", "kinto-attachment-check")
UNITS = (*NODES, *MAINTENANCE, "seaweedfs")
# What deploy/README.rst says about the S3 server, apart from its commands.
ON_S3 = r"""
sed -i 's|^KINTO_INI=.*|KINTO_INI=/etc/kinto/kinto-s3.ini|' /etc/kinto/kinto.env
cd /etc/nginx/conf.d
sed -i 's|^    include \(.*files-disk.conf\)|    # include \1|' kinto.conf
sed -i 's|^    # include \(.*files-s3.conf\)|    include \1|' kinto.conf
"""
FILL = "dd if=/dev/zero of=/var/lib/kinto/full bs=1M status=none || true"
PRIVATE = "kinto.attachment.resources.blog.drafts.private = true"

_PAUSE = 5.0
_SECONDS = 60.0


class Drill:
    """The day of a ``machine``, and what is said about it."""

    def __init__(self, machine: Machine) -> None:
        self.failures: list[str] = []
        self._machine = machine
        self._password = secrets.token_hex(8)
        self._load = Load(self._password)
        texts = [b.text for b in blocks(README) if b.section == "Set it up" and not b.language]
        self._packages, self._database, self._start, self._store = texts

    def prepare(self) -> None:
        """Everything that needs a network: the machine, and what is installed there."""
        started = time.monotonic()
        self._machine.install()
        self._machine.copy_checkout(CHECKOUT)
        say("Debian", f"{time.monotonic() - started:.0f} s")
        started = time.monotonic()
        self._machine.type_before_boot(f"apt-get update\n{self._packages}")
        (install,) = re.findall("^.*pip install seaweedfs.*$", self._store, re.MULTILINE)
        self._machine.type_before_boot(install)
        say("packages and files", f"{time.monotonic() - started:.0f} s")

    def run(self) -> None:
        """Set the site up, and live through the day."""
        machine = self._machine
        say("boot", f"{machine.boot():.1f} s")
        self._set_up()
        for unit in UNITS:
            self._judge_hardening(unit)
        with self._during("two rolling restarts", fails=False):
            for node in 2 * NODES:
                time.sleep(1)
                machine.type(f"systemctl restart {node}")
        with self._during("a wrong setting", fails=False):
            self._try_a_wrong_setting()
        with self._during("one node killed, then the other"):
            for node in NODES:
                pid = f"systemctl show --property=MainPID --value {node}"
                killed = machine.type(pid).strip()
                machine.type(f"systemctl kill --signal=KILL {node}")
                is_back = f"systemctl is-active {node} && test $({pid}) != {killed}"
                say(f"  {node} is back", self._seconds_until(is_back))
        with self._during("PostgreSQL restarted, then stopped for 10 s"):
            machine.type("systemctl restart postgresql")
            time.sleep(_PAUSE)
            machine.type("systemctl stop postgresql")
            time.sleep(10)
            machine.type("systemctl start postgresql")
            time.sleep(_PAUSE)
        with self._during("the disk full"):
            machine.type(FILL)
            time.sleep(_PAUSE)
            machine.type("rm /var/lib/kinto/full")
            time.sleep(_PAUSE)
        with self._during("power cut"):
            machine.cut_power()
            say("  booted again", f"{machine.boot():.1f} s")
            say("  it serves", self._seconds_until(f"systemctl is-active {' '.join(NODES)}"))
            time.sleep(_PAUSE)
        with self._during("shut down, and booted"):
            say("  shut down", f"{machine.shut_down():.1f} s")
            machine.boot()
            time.sleep(_PAUSE)
        self._maintain()
        self._turn_to_s3()
        with self._during("two rolling restarts, on S3", fails=False):
            for node in 2 * NODES:
                time.sleep(1)
                machine.type(f"systemctl restart {node}")
        with self._during("SeaweedFS stopped for 10 s"):
            machine.type("systemctl stop seaweedfs")
            time.sleep(10)
            machine.type("systemctl start seaweedfs")
            time.sleep(2 * _PAUSE)
        with self._during("power cut, on S3"):
            machine.cut_power()
            machine.boot()
            time.sleep(2 * _PAUSE)
        self._maintain()

    def _set_up(self) -> None:
        machine = self._machine
        machine.type(f"sed -i 's|^# {PRIVATE}|{PRIVATE}|' /etc/kinto/kinto.ini")
        machine.type(self._database)
        machine.type(self._start, stdin=f"{self._password}\n{self._password}\n")
        for unit in NODES:
            machine.type(f"systemctl is-active {unit}")
        Site(self._password).create_collections()

    @contextmanager
    def _during(self, what: str, *, fails: bool = True) -> Iterator[None]:
        """Something happens while clients work; afterwards every file is read."""
        with self._load.running() as phase:
            time.sleep(1)
            yield
            time.sleep(1)
        failed = dict(phase.failed)
        files = self._load.verify()
        say(
            what,
            f"{phase.requests} requests, {sum(failed.values())} failed {failed or ''}, the longest"
            f" {phase.longest:.1f} s; {files} files read, {len(self._load.problems)} problems",
        )
        if failed and not fails:
            self.failures.append(f"{what}: {failed}")
        if "500" in failed:
            self.failures.append(f"{what}: an answer is 500")
        self.failures.extend(self._load.problems)
        self._load.problems.clear()

    def _judge_hardening(self, unit: str) -> None:
        lines = self._machine.type(f"systemd-analyze security --no-pager {unit}.service || true")
        (exposure,) = re.findall(r"Overall exposure level.*: ([0-9.]+)", lines)
        say(f"systemd-analyze security {unit}", exposure)
        if float(exposure) > 2:
            self.failures.append(f"{unit} is exposed: {exposure}")

    def _try_a_wrong_setting(self) -> None:
        """A node that is restarted with it does not come back, and says why; the other goes on."""
        ini = "/etc/kinto/kinto.ini"
        machine = self._machine
        machine.type(f"sed -i.good 's|^kinto.attachment.max_size_bytes = .*|&much|' {ini}")
        done = machine.type("systemctl restart kinto@8001 && echo came || echo failed")
        if done.strip() != "failed":
            self.failures.append("A node starts with a wrong setting.")
        journal = machine.type("journalctl --no-pager -u kinto@8001 -n 50")
        if "kinto.attachment.max_size_bytes" not in journal:
            self.failures.append("The journal does not name the wrong setting.")
        machine.type(f"mv {ini}.good {ini} && systemctl restart kinto@8001")

    def _maintain(self) -> None:
        """Run what runs at night."""
        for unit in MAINTENANCE:
            done = self._machine.type(f"systemctl start {unit} && echo well || echo failed")
            self._machine.type(f"systemctl is-enabled {unit}.timer")
            say(unit, done.strip())
            if done.strip() != "well":
                self.failures.append(
                    self._machine.type(f"journalctl --no-pager -u {unit} -n 30 -o cat")
                )

    def _turn_to_s3(self) -> None:
        """Store files there from now on: those on the disk stay behind, and their records go."""
        site = Site(self._password)
        site.ask("DELETE", f"/v1/buckets/{BUCKET}").raise_for_status()
        self._machine.type(ON_S3)
        self._machine.type(self._store)
        self._machine.type("nginx -t && systemctl reload nginx")
        self._machine.type(f"systemctl restart {' '.join(NODES)}")
        site.create_collections()
        self._load = Load(self._password)

    def _seconds_until(self, command: str) -> str:
        started = time.monotonic()
        while time.monotonic() - started < _SECONDS:
            try:
                self._machine.type(command)
            except RuntimeError:
                time.sleep(0.2)
            else:
                return f"{time.monotonic() - started:.1f} s"
        self.failures.append(f"{command} fails after {_SECONDS:.0f} s")
        return "not"


def say(what: str, figure: str) -> None:
    """Print a line of the report."""
    print(f"{what:46} {figure}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("root boots the machine: run it as root, on a machine for trying.")
    machine = Machine(FOLDER)
    drill = Drill(machine)
    if options.prepared:
        try:
            drill.run()
        finally:
            machine.close()
        for failure in drill.failures:
            print(failure)
        print("This went wrong." if drill.failures else "All is well.")
        return 1 if drill.failures else 0
    install_programs()
    drill.prepare()
    return in_namespace([sys.executable, "-m", "tests.deploy.drill", "--prepared"])


def install_programs() -> None:
    """Install what boots the machine, unless it is there."""
    if not all(map(shutil.which, ("debootstrap", "systemd-nspawn", "ip"))):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        options = ["-qq", "-y", "--no-install-recommends"]
        subprocess.run(["apt-get", "install", *options, *PACKAGES], check=True)


def in_namespace(command: list[str]) -> int:
    """Run it where there is nothing but the machine: its ports are not those of this one."""
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        # "ip netns exec" would hide the control groups, too.
        enter = ["nsenter", f"--net=/run/netns/{NAMESPACE}"]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        return subprocess.run([*enter, *command], cwd=Path(CHECKOUT)).returncode
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True)


if __name__ == "__main__":
    sys.exit(main())

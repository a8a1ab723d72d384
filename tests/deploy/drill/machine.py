"""A Debian in a folder, booted by systemd-nspawn(1) in a network namespace without a network."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import time
from pathlib import Path

NAMESPACE = "kinto-drill"
RELEASE = "bookworm"
PACKAGES = ("debootstrap", "systemd-container", "iproute2")
# Of Kinto's files, in MiB: small, because it is filled.
DISK_SIZE = 1024

_INCLUDED = "systemd,systemd-sysv,dbus,ca-certificates,procps,iproute2"
_CERTIFICATES = "/srv/certificates.crt"
_SECONDS = 600.0
_BOOT_SECONDS = 120.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """The machine in the folder ``root``. ``checkout`` is a path there, where commands are typed.

    ``/var/lib/kinto`` is a disk of its own (in memory), which a power cut spares.
    """

    checkout = "/srv/kinto-attachment"

    def __init__(self, folder: Path) -> None:
        self.root = folder / "machine"
        self._base = folder / "debian"
        self._disk = folder / "disk"
        self._certificates = Path(ssl.get_default_verify_paths().cafile or "/nonexistent")
        self._leader: int | None = None

    def install(self) -> None:
        """Make a new machine: a minimal Debian, and nothing else."""
        if not self._base.exists():
            new = self._base.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.parent.mkdir(parents=True, exist_ok=True)
            options = ["--variant=minbase", f"--include={_INCLUDED}"]
            _run(["debootstrap", *options, RELEASE, str(new)])
            new.rename(self._base)
        shutil.rmtree(self.root, ignore_errors=True)
        _run(["cp", "--archive", "--reflink=auto", str(self._base), str(self.root)])
        # An operator says yes.
        (self.root / "etc/apt/apt.conf.d/90-yes").write_text('APT::Get::Assume-Yes "true";\n')
        if self._certificates.exists():
            shutil.copy(self._certificates, self.root / _CERTIFICATES.lstrip("/"))

    def copy_checkout(self, checkout: Path) -> None:
        """Copy what git knows of the folder ``checkout`` to the machine."""
        target = self.root / self.checkout.lstrip("/")
        for name in _run(["git", "ls-files", "-z"], cwd=checkout).split("\0"):
            if name and (checkout / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(checkout / name, target / name)

    def type_before_boot(self, commands: str) -> str:
        """Type it while systemd does not run, with the network of this machine."""
        options = ["--quiet", "--register=no", "--keep-unit", f"--directory={self.root}"]
        options += [f"--chdir={self.checkout}", "--setenv=DEBIAN_FRONTEND=noninteractive"]
        if self._certificates.exists():
            options.append(f"--setenv=PIP_CERT={_CERTIFICATES}")
        return _run(["systemd-nspawn", *options, "--console=pipe", "sh", "-e", "-c", commands])

    def boot(self) -> float:
        """Start it, and wait until systemd has started everything. Returns the seconds."""
        started = time.monotonic()
        if not os.path.ismount(self._disk):
            self._disk.mkdir(exist_ok=True)
            size = f"size={DISK_SIZE}m,mode=755"
            _run(["mount", "-t", "tmpfs", "-o", size, "kinto-drill", str(self._disk)])
        options = ["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"]
        options += [f"--directory={self.root}", f"--bind={self._disk}:/var/lib/kinto"]
        options += [f"--network-namespace-path=/run/netns/{NAMESPACE}"]
        process = subprocess.Popen(
            ["systemd-nspawn", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._leader = self._find_leader(process)
        while True:
            try:
                state = self.type("systemctl is-system-running --wait || true").strip()
            except RuntimeError:
                state = "not there yet"
            if state in ("running", "degraded"):
                return time.monotonic() - started
            if time.monotonic() - started > _BOOT_SECONDS:
                raise RuntimeError(f"The machine does not boot: {state}.")
            time.sleep(0.2)

    def type(self, commands: str, stdin: str = "") -> str:
        """Type it on the running machine, in the checkout, and return what it prints.

        Raises:
            RuntimeError: A command has failed.
        """
        environment = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8"]
        shell = ["sh", "-e", "-c", f"cd {self.checkout}\n{commands}"]
        enter = ["nsenter", f"--target={self._leader}", "--all"]
        return _run([*enter, *environment, *shell], stdin=stdin)

    def cut_power(self) -> None:
        """End all its processes at once."""
        if self._leader is not None:
            os.kill(self._leader, signal.SIGKILL)
            self._wait_until_gone(self._leader)
        self._leader = None

    def shut_down(self) -> float:
        """Let systemd stop everything. Returns the seconds."""
        started, leader = time.monotonic(), self._leader
        assert leader is not None
        self.type("systemctl poweroff")
        self._wait_until_gone(leader)
        self._leader = None
        return time.monotonic() - started

    def close(self) -> None:
        """Remove what it has on this machine, except its folders."""
        self.cut_power()
        if os.path.ismount(self._disk):
            _run(["umount", str(self._disk)])

    def _find_leader(self, process: subprocess.Popen[bytes]) -> int:
        """The machine's first process."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            for child in children.read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                # In the machine, it is number 1.
                if any(
                    line.split()[-1] == "1" and len(line.split()) > 2
                    for line in status.splitlines()
                    if line.startswith("NSpid")
                ):
                    return int(child)
            time.sleep(0.1)
        raise RuntimeError("systemd-nspawn does not start the machine.")

    @staticmethod
    def _wait_until_gone(pid: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("The machine does not stop.")
            time.sleep(0.1)


def _run(command: list[str], stdin: str = "", cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, input=stdin, cwd=cwd, capture_output=True, text=True, timeout=_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout

"""The image of deploy/container, built without an engine: a folder for each stage, in which the
instructions of the Dockerfile are carried out.

The virtualenv is that of the tests: ``python -m venv`` gives the stage its programs, and pip only
writes down what it was asked. With ``$CONTAINER_INSTALL``, both do what they are told, which takes
a minute and a registry.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
PROGRAMS = Path(sysconfig.get_path("scripts"))
FOLDERS = re.compile(r"(?<![\w./$}])/(?=(build|etc|opt|tmp|var)\b)")
INSTALLS = bool(os.environ.get("CONTAINER_INSTALL"))

# Symlinks to each file, since pip is another one.
VENV = f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin" && ln -s {PROGRAMS}/* "$3/bin/" && rm -f "$3/bin/pip"
    ln -s {sys.prefix}/lib {sys.prefix}/pyvenv.cfg "$3/"
    printf '#!/bin/sh\\necho "pip $*" >> "$NOTES"\\n' > "$3/bin/pip" && chmod 755 "$3/bin/pip"
else
    exec {sys.executable} "$@"
fi
"""
# Who runs the tests owns the folders.
INSTALL = """#!/bin/sh
for argument; do
    shift
    case $argument in --owner=*|--group=*) ;; *) set -- "$@" "$argument" ;; esac
done
exec /usr/bin/install "$@"
"""


@dataclass
class Stage:
    """A stage of the build, whose root folder is ``root``."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def within(self, text: str) -> str:
        """``text`` with the paths of the stage as they are on this machine."""
        return FOLDERS.sub(f"{self.root}/", text)

    def path(self, text: str) -> Path:
        return self.root / (Path(self.workdir) / text).relative_to("/")


class Image:
    """The stage ``target`` of a Dockerfile, built below a temporary folder. ``close()`` removes
    it."""

    def __init__(self, dockerfile: Path, target: str) -> None:
        # All users have to get there, which a folder of pytest's does not allow.
        self._folder = Path(tempfile.mkdtemp(prefix="test-image-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._notes = self._folder / "notes"
        self._notes.touch()
        self._stages: dict[str, Stage] = {}
        self._imitate()
        try:
            for name, instructions in stages(dockerfile).items():
                if name == target or f"--from={name} " in dockerfile.read_text():
                    self._build(name, instructions)
            self.stage = self._stages[target]
            self._relocate()
            self._protect()
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What pip was asked."""
        return self._notes.read_text().splitlines()

    def run(self, command: list[str], **environment: str) -> subprocess.Popen[str]:
        """Start a command in it, its own, say, as its user where the kernel allows that. Nothing
        of this process's environment is there but where the checkout is."""
        checkout = {} if INSTALLS else {"PYTHONPATH": str(CHECKOUT)}
        return subprocess.Popen(
            [*self._as_its_user(), *map(self.stage.within, command)],
            env={**self._environment(self.stage), **checkout, **environment},
            cwd=self.stage.path(self.stage.workdir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def files(self) -> dict[str, float]:
        """All that is below its root but for what is mounted there, with the time of its last
        change."""
        root = self.stage.root
        return {
            str(path.relative_to(root)): path.lstat().st_mtime
            for path in root.rglob("*")
            if not path.is_relative_to(root / "tmp")
            and not path.is_relative_to(root / "var/lib/kinto")
        }

    def close(self) -> None:
        for path in self._folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
        shutil.rmtree(self._folder)

    def _as_its_user(self) -> list[str]:
        user, _, group = self.stage.user.partition(":")
        command = ["unshare", "--user", f"--map-user={user}", f"--map-group={group}"]
        works = (
            shutil.which("unshare")
            and not subprocess.run([*command, "true"], capture_output=True).returncode
        )
        return command if works else []

    def _imitate(self) -> None:
        programs = {"install": INSTALL} if INSTALLS else {"install": INSTALL, "python": VENV}
        (self._folder / "bin").mkdir()
        for name, text in programs.items():
            (self._folder / "bin" / name).write_text(text)
            (self._folder / "bin" / name).chmod(0o755)
        if INSTALLS:
            (self._folder / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin/python3")

    def _environment(self, stage: Stage) -> dict[str, str]:
        variables = {name: stage.within(text) for name, text in stage.environment.items()}
        path = f"{self._folder / 'bin'}{os.pathsep}{os.defpath}"
        return {**variables, "PATH": variables.get("PATH", "$PATH").replace("$PATH", path)}

    def _build(self, name: str, instructions: list[tuple[str, str]]) -> None:
        stage = self._stages[name] = Stage(self._folder / name)
        stage.root.mkdir()
        (stage.root / "tmp").mkdir()
        (stage.root / "tmp").chmod(0o1777)
        for instruction, rest in instructions:
            getattr(self, f"_{instruction.lower()}")(stage, rest)

    def _copy(self, stage: Stage, rest: str) -> None:
        words = rest.split()
        of_stage = words[0].startswith("--from=")
        source = self._stages[words.pop(0).removeprefix("--from=")].root if of_stage else CHECKOUT
        *names, target = words
        for name in names:
            path = source / name.lstrip("/")
            if path.is_dir():
                shutil.copytree(
                    *(path, stage.path(target)),
                    symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "kinto.env"),
                )
            else:
                assert target.endswith("/"), rest
                shutil.copy(path, stage.path(target))

    def _run(self, stage: Stage, rest: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", stage.within(rest)],
            cwd=stage.path(stage.workdir),
            env={**os.environ, "NOTES": str(self._notes), **self._environment(stage)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{rest}: {done.stdout}{done.stderr}")

    def _env(self, stage: Stage, rest: str) -> None:
        stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))

    def _workdir(self, stage: Stage, rest: str) -> None:
        stage.workdir = rest
        stage.path(rest).mkdir(exist_ok=True)

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _expose(self, stage: Stage, rest: str) -> None:
        pass

    def _cmd(self, stage: Stage, rest: str) -> None:
        stage.command = json.loads(rest)

    def _healthcheck(self, stage: Stage, rest: str) -> None:
        stage.healthcheck = json.loads(rest.partition("CMD ")[2])

    def _relocate(self) -> None:
        """Change the paths in the configuration, and in the virtualenv if there is one."""
        stage = self.stage
        for path in (stage.root / "etc").rglob("*"):
            if path.is_file():
                path.write_text(stage.within(path.read_text()))
        for path in (stage.root / "opt/kinto/bin").iterdir() if INSTALLS else ():
            if not path.is_symlink() and path.read_bytes().startswith(b"#!"):
                build = str(self._stages["build"].root)
                path.write_text(path.read_text().replace(build, str(stage.root)))

    def _protect(self) -> None:
        """Nothing but what is mounted can be written to."""
        for path in (self.stage.root, *self.stage.root.rglob("*")):
            mounted = (self.stage.root / "tmp", self.stage.root / "var/lib/kinto")
            if not path.is_symlink() and not any(map(path.is_relative_to, mounted)):
                path.chmod(path.stat().st_mode & ~0o222)


def stages(dockerfile: Path) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by its name."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[tuple[str, str]]] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, rest = re.split(r"\s+", line.strip(), maxsplit=1)
            if instruction == "FROM":
                name = rest.rpartition(" AS ")[2]
                found[name] = []
            else:
                found[name].append((instruction, rest))
    return found

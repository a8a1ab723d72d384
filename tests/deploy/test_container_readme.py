"""README.rst of deploy/container: its commands, with programs in place of the engines that write
down what they were asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from docutils.core import publish_doctree

from tests.deploy.test_containers import CONTAINER, IN_PODS, PODS, SERVICES
from tests.support.deploy.image import stages
from tests.support.deploy.installation import DEPLOY
from tests.support.documents import blocks

README = CONTAINER / "README.rst"
NOTED = ("chown", "docker", "kubectl")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """What each program was asked, one command a line, after all the blocks."""
    root = tmp_path_factory.mktemp("containers")
    (root / "bin").mkdir()
    for name in NOTED:
        (root / "bin" / name).write_text('#!/bin/sh\necho "$0 $*" >> "$NOTES"\n')
        (root / "bin" / name).chmod(0o755)
    shutil.copytree(DEPLOY, root / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks(README):
        folder = "deploy/container" if "docker compose" in block.text else "."
        first, *_ = block.text.splitlines()
        subprocess.run(
            ["sh", "-ec", block.text],
            cwd=root if first.startswith("cd ") else root / folder,
            env={
                "PATH": f"{root / 'bin'}{os.pathsep}{os.defpath}",
                "NOTES": str(root / "notes"),
            },
            check=True,
            capture_output=True,
        )
    lines = (root / "notes").read_text().replace(f"{root}/bin/", "").splitlines()
    return root, lines


def test_it_is_valid():
    settings = {"halt_level": 2, "report_level": 2}
    publish_doctree(README.read_text(), settings_overrides=settings)


def test_it_names_every_file():
    text = README.read_text()
    files = [path for path in CONTAINER.rglob("*") if path.is_file()]
    names = {str(path.relative_to(CONTAINER)) for path in files} - {".gitignore", "README.rst"}

    assert len(names) == 8
    assert [name for name in names if f"``{name}``" not in text] == []


def test_compose_has_what_it_is_asked_for(asked):
    root, lines = asked
    words = {word for line in lines if line.startswith("docker") for word in line.split()}

    assert words & set(SERVICES) == {
        *("postgresql", "migrate", "kinto-8001", "kinto-8002", "gc", "check")
    }
    # Who may read the secret of the store is who needs it.
    user = dict(stages(CONTAINER / "Dockerfile")["seaweedfs"])["USER"].partition(":")[0]
    assert f"chown --recursive {user} etc/seaweedfs" in lines
    for name in ("kinto/kinto.env", "seaweedfs/s3.json", "nginx/conf.d/kinto.conf"):
        assert (root / "deploy/container/etc" / name).exists()


def test_kubernetes_has_what_the_pods_want(asked):
    root, lines = asked
    text = "\n".join(lines)
    given = re.findall(r"create (?:configmap|secret generic) (\S+) --from-\S+=(\S+)", text)
    applied = re.findall(r"kubectl apply --filename (\S+)", text)

    wanted = {
        *(volume["configMap"]["name"] for volume in PODS["kinto"]["volumes"][:3]),
        IN_PODS["kinto-8001"]["envFrom"][0]["secretRef"]["name"],
    }
    assert {name for name, _ in given} == wanted
    for _, source in given:
        assert (root / source).exists()
    assert not (root / "site/kinto/kinto.env").exists()
    assert {Path(each).name for each in applied} == {
        path.name for path in (CONTAINER / "kubernetes").iterdir()
    }

"""The image of deploy/container: its instructions in a plain folder, and what it starts there."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deploy.image import CHECKOUT, INSTALLS, Image, stages
from tests.support.forms import CONTENT_TYPE, file_part, form
from tests.support.servers.ports import free_port

CONTAINER = CHECKOUT / "deploy/container"
DOCKERFILE = CONTAINER / "Dockerfile"
SECONDS = 60
# What compose.yaml and the manifests have in other containers is in memory here.
ENVIRONMENT = {
    "KINTO_USERID_HMAC_SECRET": "of the tests",
    **{
        f"KINTO_{name}_BACKEND": f"kinto.core.{name.lower()}.memory"
        for name in ("STORAGE", "PERMISSION", "CACHE")
    },
    "KINTO_BUCKET_CREATE_PRINCIPALS": "system.Everyone",
}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    image = Image(DOCKERFILE, "kinto")
    yield image
    image.close()


def ended(process) -> str:
    """What a process has printed, which ends by itself."""
    output, _ = process.communicate(timeout=SECONDS)
    return output


def test_gunicorn_of_the_image_takes_an_upload_and_writes_nowhere_else(image):
    before = image.files()
    address = f"127.0.0.1:{free_port()}"
    environment = {**ENVIRONMENT, "BIND": address}
    node = image.run(image.stage.command, **environment)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                requests.put(f"http://{address}/v1/buckets/b", timeout=SECONDS).raise_for_status()
                break
            except requests.ConnectionError:
                assert node.poll() is None, ended(node)
                assert time.monotonic() < deadline
                time.sleep(0.1)
        requests.put(f"http://{address}/v1/buckets/b/collections/c", timeout=SECONDS)
        url = f"http://{address}/v1/buckets/b/collections/c/records/r/attachment"
        body = form([file_part(b"a picture", "picture.png")])
        sent = requests.post(
            url, data=body, headers={"Content-Type": CONTENT_TYPE}, timeout=SECONDS
        )
        check = image.run(image.stage.healthcheck, **environment)
        healthy = ended(check)
    finally:
        node.send_signal(signal.SIGTERM)
        log = ended(node)

    assert sent.status_code == 201, log
    assert (check.returncode, healthy) == (0, "")
    assert node.returncode == 0, log
    name = sent.json()["location"].partition("/files/")[2]
    assert (image.stage.root / "var/lib/kinto/files" / name).read_bytes() == b"a picture"
    assert image.files() == before
    # Of a node that has gone.
    check = image.run(image.stage.healthcheck, **environment)
    assert "refused" in ended(check)
    assert check.returncode == 1


def test_it_is_neither_root_s_nor_has_it_what_a_build_needs(image):
    assert image.stage.user == "10001:10001"
    folders = re.findall(
        "--owner=([0-9]+) --group=([0-9]+) .*/var/lib/kinto", DOCKERFILE.read_text()
    )
    assert folders == 2 * [("10001", "10001")]
    assert not (image.stage.root / "build").exists()
    commands = [rest for instruction, rest in stages(DOCKERFILE)["kinto"] if instruction == "RUN"]
    assert not re.search("pip|apt", " ".join(commands))


@pytest.mark.skipif(INSTALLS, reason="pip has installed them")
def test_pip_compiles_nothing_and_the_versions_are_those_of_the_file(image):
    first, second, check = image.notes

    assert first == (
        "pip install --no-cache-dir --no-deps --only-binary=:all: --requirement requirements.txt"
    )
    assert (second, check) == ("pip install --no-cache-dir --no-deps .", "pip check")


def test_the_file_of_versions_has_all_that_is_needed_and_nothing_else():
    """Followed through what is installed here, in the Python of the image."""
    version = re.search(r"^FROM python:([0-9.]+)-slim AS kinto$", DOCKERFILE.read_text(), re.M)[1]
    readme = (CHECKOUT / "deploy/README.rst").read_text()
    (installed,) = re.findall(r"^    /opt/kinto/bin/pip install \. (.*)$", readme, re.MULTILINE)
    wanted = [Requirement(name.strip('"')) for name in installed.split()]
    wanted.append(Requirement("kinto-attachment"))
    given = (CONTAINER / "requirements.txt").read_text()
    pinned = {
        canonicalize_name(requirement.name): requirement
        for requirement in map(Requirement, re.findall("^[^#\n].*$", given, re.MULTILINE))
    }
    needed = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        key = (name, *sorted(requirement.extras))
        if name in pinned:
            (pin,) = pinned[name].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), requirement
        if key in needed:
            continue
        needed.add(key)
        try:
            declared = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            # Another Python needs it.
            continue
        wanted += [
            each
            for each in declared
            if each.marker is None
            or any(
                each.marker.evaluate(
                    {"python_version": version, "python_full_version": f"{version}.0"}
                    | {"extra": extra}
                )
                for extra in ("", *requirement.extras)
            )
        ]

    assert {name for name, *_ in needed} - {"kinto-attachment"} == set(pinned)


def test_nothing_else_is_sent_to_the_engine():
    sent = re.findall(r"^!(.+)$", (CONTAINER / "Dockerfile.dockerignore").read_text(), re.M)
    copied = [
        name
        for instructions in stages(DOCKERFILE).values()
        for instruction, rest in instructions
        if instruction == "COPY" and "--from=" not in rest
        for name in rest.split()[:-1]
    ]

    assert sorted(sent) == sorted(copied)
    assert all((CHECKOUT / name).exists() for name in copied)

"""compose.yaml and the manifests for Kubernetes: valid, and nothing but deploy/etc in containers.

No engine runs them here: see deploy/container/README.rst.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.deploy.image import stages
from tests.support.deploy.installation import BUCKETS, DEPLOY, PROGRAMS
from tests.support.deploy.units import Unit

CONTAINER = DEPLOY / "container"
ETC = DEPLOY / "etc"
COMPOSE = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
MANIFESTS = [
    manifest
    for path in sorted((CONTAINER / "kubernetes").iterdir())
    for manifest in yaml.safe_load_all(path.read_text())
]
SITE = (ETC / "nginx/conf.d/kinto.conf").read_text()
GUNICORN = (ETC / "kinto/gunicorn.conf.py").read_text()
GRACEFUL_TIMEOUT = int(re.findall(r"^graceful_timeout = (\d+)$", GUNICORN, re.MULTILINE)[0])
NODES = re.findall(r"^    server (127\.0\.0\.1:\d+) ", SITE, re.MULTILINE)
S3_INI = "/etc/kinto/kinto-s3.ini"


# "weed shell" of a store that has one of the buckets.
WEED = """#!/bin/sh
read -r command && echo "$command" >> asked
if [ "$command" = s3.bucket.list ]; then
    printf '  attachments-private\\tsize:0'
fi
"""


def lint(program: str, *arguments: str | Path) -> None:
    """Run a linter, which has to be content."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    command = [shutil.which(program, path=path) or program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unit(name: str) -> configparser.SectionProxy:
    """``[Service]`` of a unit of deploy/etc."""
    return Unit(ETC / "systemd/system", name, Path("/dev/null")).service


def started(name: str) -> list[str]:
    """What a unit starts, its program by its name."""
    return shlex.split(unit(name)["ExecStart"].replace("/opt/kinto/bin/", ""))


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod of a Deployment, a Job or a CronJob."""
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    return spec["template"]["spec"]


PODS = {
    manifest["metadata"]["name"]: pod(manifest)
    for manifest in MANIFESTS
    if manifest["kind"] in ("Deployment", "Job", "CronJob")
}
IN_PODS = {
    container["name"]: container for each in PODS.values() for container in each["containers"]
}


class TestThatTheyAreValid:
    def test_the_dockerfile(self):
        lint("hadolint", CONTAINER / "Dockerfile")

    def test_the_compose_files(self):
        files = sorted(CONTAINER.glob("compose*.yaml"))
        lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)

    @pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
    def test_the_manifests(self, version):
        for manifest in MANIFESTS:
            kubernetes_validate.validate(manifest, version, strict=True)


class TestThatTheyAreTheSameAsDeployEtc:
    """There is no second copy of any file: what they say themselves is compared."""

    def test_the_image_starts_what_the_unit_starts(self):
        of_image = dict(stages(CONTAINER / "Dockerfile")["kinto"])
        before, _, command = json.loads(of_image["CMD"])[2].partition(" && exec ")
        *_, check = json.loads(of_image["HEALTHCHECK"].partition("CMD ")[2])

        def of_unit(name):
            text = unit("kinto@8001.service")[name].replace("/opt/kinto/bin/", "")
            return text.replace("127.0.0.1:8001", '"$BIND"').replace(
                "${KINTO_INI}", '"$KINTO_INI"'
            )

        assert before == of_unit("ExecStartPre")
        assert command == of_unit("ExecStart")
        assert check == f"exec {of_unit('ExecStartPost')} 0".replace('"', "")

    def test_configuration_is_mounted_where_it_is_on_a_machine(self):
        mounts = [
            mount.split(":")
            for service in SERVICES.values()
            for mount in service.get("volumes", ())
            if mount.startswith(".")
        ]

        assert {options for *_, options in mounts} == {"ro"}
        for source, target, _ in mounts:
            if target != "/etc/nginx/kinto/files-disk.conf":
                assert source == f".{target}"
            # make-secrets makes the folder.
            assert (CONTAINER / ".." / source).exists() or source == "./etc/seaweedfs"
        # What README.rst of deploy/ changes for files on S3.
        assert "include /etc/nginx/kinto/files-disk.conf;" in SITE
        sources = {target: source for source, target, _ in mounts}
        assert sources["/etc/nginx/kinto/files-disk.conf"] == "./etc/nginx/kinto/files-s3.conf"

    def test_nginx_finds_kinto_and_the_store_where_they_are(self):
        composed = [SERVICES[f"kinto-{port}"] for port in ("8001", "8002")]
        in_pod = [IN_PODS[f"kinto-{port}"] for port in ("8001", "8002")]

        assert [each["environment"]["BIND"] for each in composed] == NODES
        for container, address in zip(in_pod, NODES, strict=True):
            variables = {each["name"]: each["value"] for each in container["env"]}
            assert variables == {"KINTO_INI": S3_INI, "BIND": address}
            check = container["startupProbe"]["exec"]["command"]
            assert check[2] == f"http://{address}/v1/__heartbeat__"
        # On one network, as on one machine.
        shared = {name for name, each in SERVICES.items() if each.get("network_mode")}
        assert shared == set(SERVICES) - {"site"}
        assert {SERVICES[name]["network_mode"] for name in shared - {"postgresql"}} == {
            "service:site"
        }

    def test_the_store_is_that_of_the_unit(self):
        assert SERVICES["seaweedfs"]["command"] == started("seaweedfs.service")

    @pytest.mark.parametrize("name", ["gc", "check"])
    def test_maintenance_is_that_of_the_units(self, name):
        command = started(f"kinto-attachment-{name}.service")
        # No node_exporter looks into a container.
        command = command[: command.index("--metrics")]
        (schedule,) = (
            each["spec"]["schedule"]
            for each in MANIFESTS
            if each["metadata"]["name"] == f"kinto-{name}"
        )

        assert SERVICES[name]["command"] == command
        assert SERVICES[name]["profiles"]
        assert IN_PODS[name]["command"] == command
        cron = f"    {schedule}  kinto  set -a; . /etc/kinto/kinto.env; "
        assert cron in (DEPLOY / "README.rst").read_text()

    def test_the_migration_is_done_before_a_node_starts(self):
        command = ["kinto", "migrate"]
        assert SERVICES["migrate"]["command"] == IN_PODS["migrate"]["command"] == command
        for port in ("8001", "8002"):
            condition = SERVICES[f"kinto-{port}"]["depends_on"]["migrate"]["condition"]
            assert condition == "service_completed_successfully"

    def test_uploads_have_time_to_end(self):
        unit_waits = int(unit("kinto@8001.service")["TimeoutStopSec"])
        kinto = PODS["kinto"]
        waits = {
            each["name"]: int(each["lifecycle"]["preStop"]["exec"]["command"][1])
            for each in kinto["containers"]
        }

        for name in ("nginx", "kinto-8001", "kinto-8002"):
            assert SERVICES[name]["stop_grace_period"] == f"{unit_waits}s"
        assert kinto["terminationGracePeriodSeconds"] == unit_waits
        assert unit_waits > max(waits.values()) + GRACEFUL_TIMEOUT
        # nginx stops to accept before Kinto does.
        assert waits["kinto-8001"] == waits["kinto-8002"] > waits["nginx"]

    def test_a_node_is_not_ended_by_a_probe_while_it_is_busy(self):
        assert all("livenessProbe" not in each for each in IN_PODS.values())
        ready = IN_PODS["nginx"]["readinessProbe"]["httpGet"]["path"]
        assert ready == "/v1/__lbheartbeat__"

    def test_buckets_are_created_once(self, tmp_path):
        *shell, script = SERVICES["buckets"]["command"]
        (tmp_path / "weed").write_text(WEED)
        (tmp_path / "weed").chmod(0o755)
        subprocess.run(
            [*shell, script.replace("$$", "$")],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"},
            check=True,
        )

        created = [
            line for line in (tmp_path / "asked").read_text().splitlines() if "-name" in line
        ]
        assert created == ["s3.bucket.create -name attachments"]
        assert BUCKETS == ("attachments", "attachments-private")


class TestThatTheyHaveNoRightThatTheyDoNotNeed:
    @pytest.mark.parametrize("name", sorted(set(SERVICES) - {"postgresql"}))
    def test_services(self, name):
        service = SERVICES[name]

        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        # The image says who, but that of nginx.
        assert "user" in service or "kinto" in service["image"]
        assert ("ports" in service) == (name == "site")

    @pytest.mark.parametrize("name", sorted(IN_PODS))
    def test_containers(self, name):
        assert IN_PODS[name]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    @pytest.mark.parametrize("name", sorted(PODS))
    def test_pods(self, name):
        context = PODS[name]["securityContext"]
        user, group = dict(stages(CONTAINER / "Dockerfile")["kinto"])["USER"].split(":")

        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
        assert PODS[name]["automountServiceAccountToken"] is False

    def test_no_secret_is_in_a_file(self):
        for path in CONTAINER.rglob("*"):
            if path.is_file():
                text = path.read_text()
                assert not re.search("(SECRET|PASSWORD|ACCESS_KEY)[A-Z_]*[=:] *[^ \n]", text), path

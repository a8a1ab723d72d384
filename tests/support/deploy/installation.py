"""A copy of deploy/etc with other ports, paths and secrets, and its units running."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import requests

from tests.support.deploy.units import PROGRAMS, Unit, environment, run
from tests.support.servers.nginx import Nginx
from tests.support.servers.ports import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
SEAWEEDFS_PORTS = (9333, 19333, 8080, 18080, 8888, 18888, 8333, 18333)
BUCKETS = ("attachments", "attachments-private")
STARTUP_SECONDS = 180.0
LOG_SECONDS = 10.0
# The tests come from one address, and can name another one, as a load balancer does.
LOAD_BALANCER = "set_real_ip_from 127.0.0.0/8;\nreal_ip_header X-Test-Client;\n"
PRIVATE = "kinto.attachment.resources.blog.drafts.private = true"
# What an operator changes to have the files on S3, by the file in which it stands.
ON_S3 = {
    "etc/nginx/conf.d/kinto.conf": [
        ("    include /etc/nginx/kinto/files-disk.conf;\n", ""),
        ("# include /etc/nginx/kinto/files-s3.conf;", "include /etc/nginx/kinto/files-s3.conf;"),
    ],
    "etc/kinto/kinto.env": [("INI=/etc/kinto/kinto.ini", "INI=/etc/kinto/kinto-s3.ini")],
}


class Installation:
    """The set-up of deploy/ below the folder ``root``, as README.rst says how to make it.

    ``database`` is the URL of an empty one. Files are on the disk, or in SeaweedFS (``on_s3``).
    With files on the disk, the nodes are first started as their unit says, and the other units
    always are. All else that Python runs is forked (see ``Unit``), in a fifth of the time.
    """

    def __init__(self, root: Path, database: str, on_s3: bool) -> None:
        self.root = root
        self.on_s3 = on_s3
        self.port = free_port()
        self.nodes = [free_port(), free_port()]
        self.password = secrets.token_hex(8)
        self._nginx: Nginx | None = None
        self._forks = on_s3
        self._database = database
        self._ports = {port: free_port() for port in SEAWEEDFS_PORTS}
        self._lay_out(database)
        for folder in ("var/lib/kinto/private", "var/lib/seaweedfs", "var/log/nginx"):
            (root / folder).mkdir(parents=True)
        self.units = {
            name: self.unit(name)
            for name in ("seaweedfs.service", *(f"kinto@{port}.service" for port in self.nodes))
        }

    @property
    def url(self) -> str:
        """Of the site, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def files(self) -> Path:
        """Where files are stored, if on the disk."""
        return self.root / "var/lib/kinto/files"

    @property
    def private_files(self) -> Path:
        """Where private files are stored, if on the disk."""
        return self.root / "var/lib/kinto/private"

    @property
    def access_log(self) -> str:
        """nginx's access log."""
        return (self.root / "var/log/nginx/kinto.log").read_text()

    @property
    def nginx_log(self) -> str:
        """What nginx had to say, which is not the access log."""
        assert self._nginx is not None
        return self._nginx.log.read_text()

    def unit(self, name: str) -> Unit:
        """A unit of the installation, which does not run."""
        log = self.root / "var/log" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Unit(self.root / "etc/systemd/system", name, log, forks=self.on_s3)

    def node(self, port: int) -> Unit:
        """The process of Kinto that listens on ``port``."""
        return self.units[f"kinto@{port}.service"]

    def start(self) -> None:
        """Create the tables, the bucket on S3 and the admin, and start everything."""
        seaweedfs = self.units["seaweedfs.service"]
        if self.on_s3:
            seaweedfs.start()
        self.run("kinto", "migrate")
        self.run("kinto", "create-user", "-u", "admin", "-p", self.password)
        if self.on_s3:
            self._create_bucket()
        for port in self.nodes:
            self.node(port).start()
        for port in self.nodes:
            self.wait_for(port)
        sites = self.root / "etc/nginx/conf.d/*.conf"
        self._nginx = Nginx(sites, self.root / "run/nginx", self.port)
        self._forks = True
        for unit in self.units.values():
            unit.forks = True

    def stop(self) -> None:
        """Stop everything."""
        if self._nginx is not None:
            self._nginx.stop()
        # Gunicorn waits for connections that do nothing: two at a time.
        for port in self.nodes:
            self.node(port).begin_to_stop()
        for port in self.nodes:
            self.node(port).stop()
        # It would wait for 10 seconds, for the sake of files that go with it.
        self.units["seaweedfs.service"].stop(0)

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a program in the environment of kinto.env, and return what it prints."""
        environ = {**os.environ, **environment(self.root / "etc/kinto/kinto.env")}
        done = run([str(PROGRAMS / program), *arguments], environ, self._forks, stdin)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait_for(self, port: int) -> None:
        """Until the node on ``port``, which was started, answers."""
        self.node(port).wait_until_ready()
        requests.get(f"http://127.0.0.1:{port}/v1/", timeout=5).raise_for_status()

    def other_nginx(self, folder: Path, changes: dict[str, str], port: int) -> Nginx:
        """Run another nginx, whose configuration in ``folder`` is that of this one with
        ``changes``: each of them has to find its place. It listens on ``port``."""
        old, new = self.root / "etc/nginx", folder / "etc/nginx"
        texts = {path.relative_to(old): path.read_text() for path in old.rglob("*.conf")}
        for before, after in {**changes, str(old): str(new)}.items():
            assert any(before in text for text in texts.values()), before
            texts = {name: text.replace(before, after) for name, text in texts.items()}
        for name, text in texts.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text)
        return Nginx(new / "conf.d/*.conf", folder / "nginx", port)

    @property
    def store_url(self) -> str:
        """Of the server that speaks S3, if files are there."""
        return f"http://127.0.0.1:{self._ports[8333]}"

    def put_object(self, name: str, content: bytes, content_type: str) -> None:
        """Put a file into the bucket on S3, without Kinto."""
        secret = environment(self.root / "etc/kinto/kinto.env")
        client = boto3.client(
            "s3",
            endpoint_url=self.store_url,
            region_name="us-east-1",
            aws_access_key_id=secret["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret["AWS_SECRET_ACCESS_KEY"],
        )
        client.put_object(Bucket="attachments", Key=name, Body=content, ContentType=content_type)
        client.close()

    def disconnect(self) -> None:
        """Take all connections to the database away, as a restart of PostgreSQL does."""
        with psycopg2.connect(self._database) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connection.close()

    def served(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """The ``count`` lines that nginx's log has about requests to ``path``. nginx writes them
        after the answer."""
        deadline = time.monotonic() + LOG_SECONDS
        while True:
            lines = [json.loads(line) for line in self.access_log.splitlines()]
            about = [line for line in lines if f"{path} " in line["request"]]
            if len(about) == count:
                return about
            assert time.monotonic() < deadline, about
            time.sleep(0.02)

    def _lay_out(self, database: str) -> None:
        """Copy deploy/etc, make the secrets, and change what is another here: every change has to
        find its place."""
        shutil.copytree(
            DEPLOY / "etc", self.root / "etc", ignore=shutil.ignore_patterns("__pycache__")
        )
        make_secrets = [DEPLOY / "make-secrets", self.root / "etc"]
        subprocess.run(make_secrets, check=True, capture_output=True)
        texts = {
            str(path.relative_to(self.root)): path.read_text()
            for path in (self.root / "etc").rglob("*")
            if path.is_file()
        }
        for name, changes in ON_S3.items() if self.on_s3 else ():
            for old, new in changes:
                assert old in texts[name], old
                texts[name] = texts[name].replace(old, new)
        for old, new in self._changes(database).items():
            assert any(old in text for text in texts.values()), old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            (self.root / name).write_text(text)
        (self.root / "etc/nginx/conf.d/load-balancer.conf").write_text(LOAD_BALANCER)

    def _changes(self, database: str) -> dict[str, str]:
        ports = {str(port): str(self._ports[port]) for port in SEAWEEDFS_PORTS}
        folders = ("/etc/kinto", "/etc/nginx", "/etc/seaweedfs")
        folders += ("/var/lib/kinto", "/var/lib/seaweedfs", "/var/log/nginx")
        return {
            "postgresql://kinto@/kinto?host=/var/run/postgresql": database,
            **{folder: f"{self.root}{folder}" for folder in folders},
            f"# {PRIVATE}": PRIVATE.replace("blog", "b"),
            "/opt/kinto/bin": str(PROGRAMS),
            "listen [::]:80;\n": "",
            # A client that is too slow shows sooner.
            "GRACE_SECONDS = 30": "GRACE_SECONDS = 4",
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "http://kinto.example.org": self.url,
            "127.0.0.1:8001": f"127.0.0.1:{self.nodes[0]}",
            "127.0.0.1:8002": f"127.0.0.1:{self.nodes[1]}",
            **{f"={old}": f"={new}" for old, new in ports.items()},
            "127.0.0.1:8333": f"127.0.0.1:{ports['8333']}",
        }

    def _create_bucket(self) -> None:
        master = f"127.0.0.1:{self._ports[9333]}.{self._ports[19333]}"
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                self.run(
                    *("weed", "shell", f"-master={master}"),
                    stdin="".join(f"s3.bucket.create -name {name}\n" for name in BUCKETS),
                )
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

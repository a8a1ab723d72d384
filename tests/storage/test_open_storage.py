"""Which storage the options open, and what is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kinto_attachment.storage import LocalOptions, S3Options, open_storage
from kinto_attachment.storage.local import LocalStorage
from kinto_attachment.storage.s3 import S3Storage

LOCAL_SERVER = """
import sys
from kinto import main
main({}, **{"kinto.includes": "kinto_attachment", "kinto.attachment.base_path": sys.argv[1]})
print(*{name.partition(".")[0] for name in sys.modules})
"""

WITHOUT_POSTGRESQL = """
import pkgutil, sys
for name in ("sqlalchemy", "zope.sqlalchemy", "psycopg", "psycopg2"):
    sys.modules[name] = None  # an import raises ModuleNotFoundError
import kinto_attachment
for module in pkgutil.walk_packages(kinto_attachment.__path__, "kinto_attachment."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_the_options_choose_the_storage(tmp_path: Path) -> None:
    local = open_storage(LocalOptions(str(tmp_path)), base_url="/files/")
    s3 = open_storage(S3Options("files"), base_url="https://cdn.example.org")

    assert isinstance(local, LocalStorage)
    assert (local.base_path, local.url("a.txt")) == (str(tmp_path), "/files/a.txt")
    assert isinstance(s3, S3Storage)
    assert (s3.bucket_name, s3.url("a.txt")) == ("files", "https://cdn.example.org/a.txt")


def test_a_server_with_local_files_imports_no_provider(tmp_path: Path) -> None:
    imported = run(LOCAL_SERVER, str(tmp_path)).split()

    assert "kinto_attachment" in imported
    assert {"boto3", "botocore", "s3transfer", "google", "google_crc32c"}.isdisjoint(imported)


def test_every_module_can_be_imported_without_the_packages_of_postgresql() -> None:
    run(WITHOUT_POSTGRESQL)

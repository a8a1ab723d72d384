"""URLs of Google Cloud Storage that let whoever has them read a file."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from google.auth.credentials import Credentials
from google.cloud.storage import Blob
from google.oauth2 import service_account

from kinto_attachment.storage import NewFile, StorageUnavailable
from kinto_attachment.storage.gcloud import session as gcloud_session
from tests.storage.conftest import gcloud_storage

ANSWER = ("text/plain", 'attachment; filename="ä b.txt"', "private, no-store")


@pytest.fixture
def storage(gcs):
    return gcloud_storage(gcs, acl="", credentials=str(gcs.credentials_file))


@pytest.fixture
def name(storage):
    staged = storage.stage(NewFile("a b.html", folder="grüße", content_type="text/html"))
    staged.write(b"content")
    return staged.finish()


def test_whoever_has_it_reads_the_file_as_it_says(storage, name):
    url = storage.presigned_url(name, 60, *ANSWER)

    answer = requests.get(url)  # noqa: S113 - of a server beside this process

    assert answer.content == b"content"
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert parse_qs(urlsplit(url).query)["X-Goog-Expires"] == ["60"]


def test_nobody_changes_what_it_says(storage, name):
    url = storage.presigned_url(name, 60, *ANSWER).replace("attachment", "inline")

    assert requests.get(url).status_code == 403  # noqa: S113


def test_without_it_nobody_reads_the_file(storage, name, gcs):
    url = storage.plain_url(name)

    assert url.startswith(f"{gcs.endpoint_url}/{gcs.bucket}/gr%C3%BC%C3%9Fe/")
    assert requests.get(url).status_code == 403  # noqa: S113
    gcs.public_bucket = True
    assert requests.get(url).content == b"content"  # noqa: S113


def test_there_is_none_without_credentials(gcs):
    assert gcloud_storage(gcs).presigned_url("a.txt", 60, *ANSWER) is None


def test_what_is_no_name_has_none(storage):
    for url in (lambda: storage.presigned_url("", 60, *ANSWER), lambda: storage.plain_url("/a")):
        with pytest.raises(FileNotFoundError):
            url()


class MachineCredentials(Credentials):
    """Those of one of Google's machines: they have no key, and a token once they are refreshed."""

    service_account_email = "kinto@example.iam.gserviceaccount.com"

    def refresh(self, request):
        self.token = "of the machine"
        self.expiry = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(hours=1)


def test_without_a_key_google_is_asked_to_sign(gcs, monkeypatch):
    asked = []

    def sign(blob, **arguments):
        asked.append(arguments)
        return "https://signed.example.org/"

    def account(path, scopes):
        credentials = MachineCredentials()
        credentials.project_id = "project"
        return credentials

    monkeypatch.setattr(service_account.Credentials, "from_service_account_file", account)
    monkeypatch.setattr(Blob, "generate_signed_url", sign)
    storage = gcloud_storage(gcs, credentials=str(gcs.credentials_file))

    for _ in range(2):
        assert storage.presigned_url("a.txt", 60, *ANSWER) == "https://signed.example.org/"
    assert [each["access_token"] for each in asked] == ["of the machine"] * 2
    assert asked[0]["service_account_email"] == MachineCredentials.service_account_email


def test_a_signature_that_cannot_be_had_is_told(storage, monkeypatch):
    def fail(blob, **arguments):
        raise gcloud_session.GoogleAuthError("cannot sign")

    monkeypatch.setattr(Blob, "generate_signed_url", fail)
    with pytest.raises(StorageUnavailable, match="cannot sign"):
        storage.presigned_url("a.txt", 60, *ANSWER)

"""The settings of Google Cloud Storage: what they are read as, and what stops the server."""

from __future__ import annotations

import json
import subprocess
import sys

import kinto
import pytest
from kinto.core.utils import native_value
from pyramid.exceptions import ConfigurationError
from pyramid.paster import get_app, get_appsettings

from kinto_attachment.settings import Settings
from kinto_attachment.storage.options import GCloudOptions, LocalOptions, S3Options
from tests.conftest import KintoApp
from tests.settings.test_settings import read
from tests.settings.test_settings import stopped as stopped_with_a_folder
from tests.support.servers.gcs import GcsServer

RELEASED = """\
[app:main]
use = egg:kinto
kinto.includes = kinto_attachment
kinto.userid_hmac_secret = any

# As versions 6.3 to 9.x have it.
kinto.attachment.base_url =
kinto.attachment.extra.base_url = https://cdn.example.org/v1
kinto.attachment.folder = {bucket_id}/{collection_id}
kinto.attachment.keep_old_files = true
kinto.attachment.aws.region = eu-west-1
"""
EVERY_NAME = """\
kinto.attachment.gcloud.credentials = CREDENTIALS
kinto.attachment.gcloud.project = my-project
kinto.attachment.gcloud.bucket_name = "prod-bucket"
kinto.attachment.gcloud.acl = publicRead
kinto.attachment.gcloud.auto_create_bucket = true
kinto.attachment.gcloud.auto_create_acl = projectPrivate
kinto.attachment.gcloud.cache_control = public, max-age=3600
kinto.attachment.gcloud.uniform_bucket_level_access = false
"""
EMPTY = """\
kinto.attachment.gcloud.credentials =
kinto.attachment.gcloud.bucket_name = prod-bucket
kinto.attachment.gcloud.project =
kinto.attachment.gcloud.auto_create_bucket =
kinto.attachment.gcloud.cache_control =
kinto.attachment.gcloud.uniform_bucket_level_access =
"""
WITHOUT_GOOGLE = """
import sys
for name in ("google", "google_crc32c"):
    sys.modules[name] = None  # an import raises ModuleNotFoundError
from kinto_attachment.commands import main
sys.exit(main(["--ini", sys.argv[1], "check"]))
"""


@pytest.fixture
def key(tmp_path):
    """The path of a service account's key."""
    path = tmp_path / "key.json"
    content = dict.fromkeys(("type", "client_email", "private_key", "token_uri"), "x")
    path.write_text(json.dumps(content))
    return path


def options_of(**gcloud):
    given = {f"gcloud.{name}": value for name, value in gcloud.items()}
    return read(base_path="", **{"gcloud.bucket_name": "b", **given}).storage


def stopped(message, **gcloud):
    given = {f"gcloud.{name}": value for name, value in {"bucket_name": "b", **gcloud}.items()}
    stopped_with_a_folder(message, base_path="", **given)


def settings_of_ini(tmp_path, text):
    path = tmp_path / "kinto.ini"
    path.write_text(text)
    written = get_appsettings(str(path), name="main")
    native = {name.removeprefix("kinto."): native_value(value) for name, value in written.items()}
    return Settings.from_kinto({"settings_prefix": "kinto", **written, **native})


def test_the_bucket_alone_chooses_it():
    assert options_of() == GCloudOptions(bucket="b", acl="publicRead")


def test_every_option(key):
    options = options_of(
        acl="bucketOwnerRead",
        credentials=str(key),
        project="my-project",
        auto_create_bucket="true",
        auto_create_acl="private",
        endpoint_url="http://127.0.0.1:9023/",
        num_retries="3",
        timeout="2.5",
    )

    assert options == GCloudOptions(
        bucket="b",
        acl="bucketOwnerRead",
        credentials=str(key),
        project="my-project",
        auto_create_bucket=True,
        auto_create_acl="private",
        endpoint_url="http://127.0.0.1:9023",
        num_retries=3,
        timeout=2.5,
    )


def test_an_ini_file_of_the_released_plugin_is_taken_over_unchanged(tmp_path, key):
    text = RELEASED + EVERY_NAME.replace("CREDENTIALS", str(key))

    settings = settings_of_ini(tmp_path, text)

    assert settings.storage == GCloudOptions(
        bucket="prod-bucket",
        credentials=str(key),
        project="my-project",
        auto_create_bucket=True,
    )
    assert settings.defaults.cache_control == "public, max-age=3600"
    assert settings.extra_base_url == "https://cdn.example.org/v1/"


@pytest.fixture
def google():
    """A server that plays Google Cloud Storage."""
    with GcsServer() as server:
        yield server


def test_a_server_starts_with_that_ini_file_and_stores_files(tmp_path, google):
    text = RELEASED + EVERY_NAME.replace("CREDENTIALS", str(google.credentials_file))
    ini = tmp_path / "kinto.ini"
    ini.write_text(
        f"{text.replace('prod-bucket', google.bucket)}"
        f"multiauth.policies = basicauth\n"
        f"kinto.attachment.gcloud.endpoint_url = {google.endpoint_url}\n"
    )
    app = KintoApp(get_app(str(ini), name="main"))
    app.put_json("/v1/buckets/b", {})
    app.put_json("/v1/buckets/b/collections/c", {})
    uri = "/v1/buckets/b/collections/c/records/r/attachment"

    answer = app.post(uri, upload_files=[("attachment", "a.txt", b"content")])

    ((name, stored),) = google.objects().items()
    assert answer.json["location"] == name
    assert name.startswith("b/c/")
    assert stored.acl == "publicRead"
    assert stored.properties["cacheControl"] == "public, max-age=3600"
    assert app.get("/v1/__heartbeat__").json["attachments"] is True


def test_what_the_released_plugin_took_for_left_out_is(tmp_path):
    settings = settings_of_ini(tmp_path, RELEASED + EMPTY)

    assert settings.storage == GCloudOptions(bucket="prod-bucket")
    assert settings.defaults.cache_control is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("base_path", "aws.bucket"),
        ("base_path", "aws.bucket_name"),
        ("base_path", "gcloud.bucket_name"),
        ("aws.bucket", "gcloud.bucket_name"),
        ("aws.bucket_name", "gcloud.bucket_name"),
    ],
)
def test_two_storages_are_named(first, second):
    message = f"kinto.attachment.{first} and kinto.attachment.{second} are both set"
    stopped_with_a_folder(message, **{"base_path": "", first: "a", second: "b"})


@pytest.mark.parametrize("name", ["credentials", "acl", "project", "cache_control", "timeout"])
def test_a_bucket_that_is_not_named(name):
    values = {"acl": "private", "timeout": "5"}
    stopped_with_a_folder(
        f"kinto.attachment.gcloud.{name} needs kinto.attachment.gcloud.bucket_name",
        base_path="",
        **{f"gcloud.{name}": values.get(name, "x")},
    )


def test_settings_of_another_storage_are_ignored():
    rest = {
        "gcloud.credentials": "/nowhere/key.json",
        "gcloud.uniform_bucket_level_access": "true",
        "gcloud.acl": "publicRead",
        "gcloud.cache_control": "no-store",
        "aws.access_key": "<AWS access key>",
    }

    settings = read(**rest)
    assert settings.storage == LocalOptions("/tmp/files")
    assert settings.defaults.cache_control is None
    del rest["aws.access_key"]
    assert read(base_path="", **{"aws.bucket": "b"}, **rest).storage == S3Options("b")


@pytest.mark.parametrize("name", ["acl", "auto_create_acl"])
def test_an_acl_in_a_bucket_with_uniform_access(name):
    message = f"kinto.attachment.gcloud.{name} is set, though"
    stopped(message, **{name: "publicRead", "uniform_bucket_level_access": "true"})


@pytest.mark.parametrize("given", [{}, {"acl": "", "auto_create_acl": ""}])
def test_no_acl_in_a_bucket_with_uniform_access(given):
    options = options_of(uniform_bucket_level_access="true", **given)

    assert (options.acl, options.auto_create_acl) == ("", "")
    assert options.uniform_bucket_level_access


def test_the_acl_may_be_empty():
    assert options_of(acl="").acl == ""


@pytest.mark.parametrize(
    ("written", "acl"),
    [
        ("public-read", "publicRead"),
        ("project-private", "projectPrivate"),
        ("bucket-owner-full-control", "bucketOwnerFullControl"),
        ("private", "private"),
    ],
)
def test_the_xml_api_s_names_of_acls_are_known(written, acl):
    assert options_of(acl=written).acl == acl


@pytest.mark.parametrize("value", ["public", "publicReadWrite", "aws-exec-read", "PublicRead"])
def test_an_unknown_acl(value):
    stopped("kinto.attachment.gcloud.acl should be empty or one of authenticatedRead", acl=value)


@pytest.mark.parametrize("value", ["bucketOwnerRead", "public"])
def test_an_unknown_acl_of_a_bucket(value):
    stopped("kinto.attachment.gcloud.auto_create_acl should be empty or", auto_create_acl=value)


def test_a_key_that_is_missing(tmp_path):
    path = str(tmp_path / "key.json")
    stopped(f"gcloud.credentials cannot be read: {path}: No such file", credentials=path)


def test_a_key_that_cannot_be_read(tmp_path):
    path = str(tmp_path)
    stopped(f"gcloud.credentials cannot be read: {path}: Is a directory", credentials=path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"-----BEGIN PRIVATE KEY-----"])
def test_a_key_that_is_no_json(key, content):
    key.write_bytes(content)

    stopped(f"{key} is not JSON", credentials=str(key))


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"type": "authorized_user", "client_email": "a@b", "token_uri": "x"}'],
)
def test_json_that_is_no_key(key, content):
    key.write_text(content)

    stopped(f"service account's key as JSON: {key} has no ", credentials=str(key))


def test_the_setting_of_all_storages_and_the_released_one():
    forever = "public, max-age=31536000, immutable"
    given = {"base_path": "", "gcloud.bucket_name": "b", "gcloud.cache_control": forever}

    settings = read(**given, **{"resources.b.c.cache_control": "no-cache"})
    assert settings.for_collection("b", "c").cache_control == "no-cache"
    assert settings.for_collection("b", "other").cache_control == forever
    assert read(**given, cache_control=forever).defaults.cache_control == forever
    for other in ("no-store", ""):
        stopped_with_a_folder("contradict each other", **given, cache_control=other)


def test_a_start_without_google_s_library_is_refused(monkeypatch, tmp_path):
    def missing(options, base_url=""):
        raise ImportError("No module named 'google'")

    monkeypatch.setattr("kinto_attachment.storage.files.open_storage", missing)

    settings = {
        "kinto.includes": "kinto_attachment",
        "kinto.userid_hmac_secret": "any",
        "kinto.attachment.base_path": str(tmp_path),
    }
    with pytest.raises(ConfigurationError, match=r"kinto-attachment\[gcloud\]"):
        kinto.main({}, config=None, **settings)


def test_a_server_without_google_s_library_says_what_to_install(tmp_path):
    ini = tmp_path / "kinto.ini"
    ini.write_text(RELEASED + EMPTY)

    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_GOOGLE, str(ini)]
    stopped = subprocess.run(command, capture_output=True, text=True)

    assert stopped.returncode == 2
    assert "pip install kinto-attachment[gcloud]" in stopped.stderr
    assert "Traceback" not in stopped.stderr

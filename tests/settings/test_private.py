"""The settings of private files: where they are kept apart, and how files are sent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pyramid.exceptions import ConfigurationError

from kinto_attachment.storage import GCloudOptions, LocalOptions, S3Options
from tests.settings.test_settings import read

S3 = {"base_path": "", "aws.bucket": "public"}
GCLOUD = {"base_path": "", "gcloud.bucket_name": "public"}


def refused(**settings):
    with pytest.raises(ConfigurationError) as stop:
        read(**settings)
    return str(stop.value)


def test_nothing_is_private_by_default():
    settings = read()

    assert settings.private_storage is None
    assert not settings.defaults.private
    assert settings.download.mode == "stream"
    assert settings.download.link_expires == timedelta(hours=1)


def test_a_folder_of_its_own(tmp_path):
    settings = read(private="true", **{"private.base_path": str(tmp_path)})

    assert settings.private_storage == LocalOptions(str(tmp_path))
    assert settings.for_collection("b", "c").private


def test_a_bucket_of_its_own_without_an_acl():
    settings = read(private="true", **S3, **{"aws.private_bucket": "private", "aws.region": "x"})

    assert settings.private_storage == S3Options("private", acl="", region="x")


def test_a_bucket_of_google_of_its_own_without_an_acl():
    settings = read(private="true", **GCLOUD, **{"gcloud.private_bucket_name": "private"})

    assert settings.private_storage == GCloudOptions("private", acl="")


@pytest.mark.parametrize(
    ("storage", "name"),
    [
        ({}, "private.base_path"),
        (S3, "aws.private_bucket"),
        (GCLOUD, "gcloud.private_bucket_name"),
    ],
)
@pytest.mark.parametrize("key", ["private", "resources.b.private", "resources.b.c.private"])
def test_private_files_need_a_store_of_their_own(storage, name, key):
    assert f"kinto.attachment.private needs kinto.attachment.{name}:" in refused(
        **{**storage, key: "true"}
    )


def test_a_store_may_be_ready_before_anything_is_private(tmp_path):
    assert read(**{"private.base_path": str(tmp_path)}).private_storage is not None


@pytest.mark.parametrize(
    ("public", "private"),
    [
        ("files", "files"),
        ("files", "files/private"),
        ("files/public", "files"),
        ("files", "link"),
        ("files", "elsewhere/../files/private"),
    ],
)
def test_neither_folder_is_inside_the_other(tmp_path, public, private):
    (tmp_path / "files").mkdir()
    (tmp_path / "link").symlink_to("files")
    paths = {"base_path": tmp_path / public, "private.base_path": tmp_path / private}

    sentence = refused(**{name: str(path) for name, path in paths.items()})

    assert "kinto.attachment.private.base_path" in sentence
    assert "neither inside the other" in sentence


@pytest.mark.parametrize(
    "storage",
    [{**S3, "aws.private_bucket": "public"}, {**GCLOUD, "gcloud.private_bucket_name": "public"}],
)
def test_the_public_bucket_is_not_private(storage):
    assert "is the bucket of public files: public" in refused(**storage)


@pytest.mark.parametrize("folder", ["_private", "/_private/", "_private/b", "_private_too"])
def test_no_public_folder_looks_like_that_of_private_files(folder):
    assert "should not begin with _private" in refused(folder=folder)


def test_no_folder_looks_like_a_link():
    assert "should not begin with ~" in refused(folder="/~{bucket_id}")
    assert read(folder="a/~b").defaults.folder.text == "a/~b"


class TestDownloads:
    def test_redirects_need_a_store_that_can_send_files(self):
        assert "redirect needs S3" in refused(**{"download.mode": "redirect"})
        assert read(**S3, **{"download.mode": "redirect"}).download.mode == "redirect"

    @pytest.mark.parametrize(
        "settings", [{}, {**S3, "download.accel_prefix": "/internal/"}], ids=["no prefix", "S3"]
    )
    def test_accel_needs_a_folder_and_nginx(self, settings):
        sentence = refused(**{**settings, "download.mode": "accel"})

        assert "accel needs kinto.attachment.base_path" in sentence

    @pytest.mark.parametrize("prefix", ["/internal", "/internal/"])
    def test_accel(self, prefix):
        settings = read(**{"download.mode": "accel", "download.accel_prefix": prefix})

        assert settings.download.accel_prefix == "/internal/"

    @pytest.mark.parametrize("prefix", ["internal", "/", "/a b/", "/a;b", "https://a/"])
    def test_a_prefix_that_nginx_cannot_have(self, prefix):
        assert "should be a path like" in refused(**{"download.accel_prefix": prefix})

    def test_an_unknown_mode(self):
        assert "stream, redirect, accel" in refused(**{"download.mode": "proxy"})

    @pytest.mark.parametrize("expires", ["0s", "8d", "soon"])
    def test_links_that_live_too_long(self, expires):
        assert "kinto.attachment.download.link_expires" in refused(
            **{"download.link_expires": expires}
        )

    def test_the_secret_is_kintos_unless_it_is_set(self):
        kinto = {"userid_hmac_secret": "kinto"}
        assert read(kinto).download.secrets == ("kinto",)
        ours = {"download.secret": "new", "download.former_secret": "old"}
        assert read(kinto, **ours).download.secrets == ("new", "old")
        assert "new" not in repr(read(kinto, **ours).download)

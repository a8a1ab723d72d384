"""The settings: what they are read as, and what stops the server."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kinto.core.utils import native_value
from pyramid.exceptions import ConfigurationError

from kinto_attachment.settings import Quota, Settings
from kinto_attachment.settings.schema import SCHEMA
from kinto_attachment.storage import open_storage
from kinto_attachment.storage.options import LocalOptions, S3Options


def read(settings=None, **attachment):
    """The settings as Kinto hands them over: as JSON's types, without its prefix."""
    given = {"base_path": "/tmp/files", **attachment}
    written = {f"kinto.attachment.{name}": value for name, value in given.items()}
    written |= settings or {}
    native = {key.removeprefix("kinto."): native_value(value) for key, value in written.items()}
    return Settings.from_kinto({"settings_prefix": "kinto", **written, **native})


def read_s3(**aws):
    options = {f"aws.{name}": value for name, value in {"bucket": "files", **aws}.items()}
    return read(base_path="", **options).storage


def stopped(message, **given):
    with pytest.raises(ConfigurationError) as stop:
        read(**given)
    assert message in str(stop.value)


def test_the_defaults():
    settings = read()

    assert settings.base_url == ""
    assert settings.former_base_urls == ()
    assert settings.serve_files is False
    assert settings.uploads_expire == timedelta(hours=24)
    everywhere = settings.for_collection("b", "c")
    assert everywhere.folder.fill(bucket_id="b", collection_id="c") == ""
    assert everywhere.keep_old_files is False
    assert everywhere.randomize is True
    assert everywhere.filename_pattern.fill(filename="f", datetime="d", rid="r") == "f"
    assert everywhere.extensions == frozenset()
    assert everywhere.mimetypes == {}
    assert everywhere.max_size_bytes == 0
    assert everywhere.cache_control is None


def test_uploads_expire_after_a_length_of_time():
    assert read(**{"uploads.expires": "90m"}).uploads_expire == timedelta(minutes=90)


@pytest.mark.parametrize("value", ["", "24", "h", "1.5h", "-1h", "0s", "999999w", "1 h"])
def test_a_length_of_time_that_cannot_be_right(value):
    stopped("kinto.attachment.uploads.expires should be ", **{"uploads.expires": value})


def test_no_storage():
    stopped("does not know where to store files", base_path="")


def test_two_storages():
    stopped("are both set", **{"aws.bucket": "files"})


def test_a_bucket_that_is_not_named():
    stopped("kinto.attachment.aws.region needs", base_path="", **{"aws.region": "eu-west-1"})


def test_two_names_for_the_bucket():
    stopped("name two buckets", base_path="", **{"aws.bucket": "a", "aws.bucket_name": "b"})


@pytest.mark.parametrize("name", ["bucket", "bucket_name"])
def test_either_name_for_the_bucket(name):
    assert read(base_path="", **{f"aws.{name}": "files"}).storage == S3Options(bucket="files")


def test_both_names_for_one_bucket():
    given = {"aws.bucket": "files", "aws.bucket_name": "files"}

    assert read(base_path="", **given).storage == S3Options(bucket="files")
    stopped("base_path and kinto.attachment.aws.bucket", **given)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()

    stopped("kinto.attachment.base_path should be a folder", base_path=str(tmp_path / "file"))


def test_a_relative_folder_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    files = open_storage(read(base_path="files").storage)
    monkeypatch.chdir("/")

    assert files.base_path == str(tmp_path / "files")


def test_every_option_of_s3():
    options = read_s3(
        acl="private",
        access_key="AKIA",
        secret_key="s3cr3t",
        region="eu-west-1",
        endpoint_url="https://s3.example.org/",
        host="s3.example.org",
        port="9000",
        is_secure="false",
        use_path_style="true",
        sign_payload="true",
        num_retries="3",
        timeout="2.5",
    )

    assert options == S3Options(
        bucket="files",
        acl="private",
        access_key="AKIA",
        secret_key="s3cr3t",
        region="eu-west-1",
        endpoint_url="https://s3.example.org",
        host="s3.example.org",
        port=9000,
        is_secure=False,
        use_path_style=True,
        sign_payload=True,
        num_retries=3,
        timeout=2.5,
    )


def test_the_acl_may_be_empty():
    assert read_s3(acl="").acl == ""
    assert read_s3().acl == "public-read"


def test_one_key_without_the_other():
    stopped("go together", base_path="", **{"aws.bucket": "b", "aws.access_key": "a"})


@pytest.mark.parametrize("value", ["2024", "1.10", "1e5", "true", "null", "[1, 2]", "007"])
def test_text_that_looks_like_json_stays_text(value):
    assert read_s3(bucket=value).bucket == value
    assert read_s3(access_key=value, secret_key=value).secret_key == value


@pytest.mark.parametrize(
    ("value", "expected"), [(2024, "2024"), (True, "true"), (1.5, "1.5"), ("x", "x")]
)
def test_values_that_kinto_read_from_the_environment(value, expected):
    settings = {"attachment.aws.bucket": value, "kinto.attachment.aws.bucket": "overridden"}

    assert Settings.from_kinto(settings).storage == S3Options(bucket=expected)


@pytest.mark.parametrize(
    ("name", "quoted", "attribute", "expected"),
    [
        ("extra.base_url", '"https://a.org/"', "extra_base_url", "https://a.org/"),
        ("base_path", '"/tmp/x"', "storage", LocalOptions("/tmp/x")),
        ("uploads.expires", '"2h"', "uploads_expire", timedelta(hours=2)),
        ("serve_files", '"true"', "serve_files", True),
        ("former_base_urls", '"https://a.org/"', "former_base_urls", ("https://a.org/",)),
    ],
)
def test_quotes_around_a_value_are_not_a_part_of_it(name, quoted, attribute, expected):
    assert getattr(read(**{name: quoted}), attribute) == expected


def test_quotes_around_a_value_of_s3_or_of_one_bucket():
    assert read_s3(bucket='"prod"').bucket == "prod"
    assert read_s3(access_key='"a"', secret_key='"1e5"').secret_key == "1e5"
    folder = read(**{"resources.b.folder": '"of-b"'}).for_collection("b", "c").folder
    assert folder.text == "of-b"


@pytest.mark.parametrize("value", ["'prod'", '"prod', "prod'"])
@pytest.mark.parametrize("name", ["bucket", "bucket_name", "region", "host"])
def test_quotes_that_json_does_not_know(name, value):
    options = {"aws.bucket": "b"} if name in ("region", "host") else {}
    message = f"kinto.attachment.aws.{name} should have no quotes"
    stopped(message, base_path="", **options, **{f"aws.{name}": value})


@pytest.mark.parametrize("value", ["'/tmp/x'", '"/tmp/x'])
def test_a_folder_in_other_quotes(value):
    stopped("kinto.attachment.base_path should be a folder without quotes", base_path=value)


@pytest.mark.parametrize("value", ["https://a.org/f", "https://a.org/f/", "/files", "//a.org/f"])
def test_base_urls_end_with_a_slash(value):
    assert read(base_url=value).base_url == value.rstrip("/") + "/"


@pytest.mark.parametrize("value", ["a.org/files", "https", "https://a.org/a b"])
def test_base_urls_that_are_none(value):
    stopped("kinto.attachment.base_url should be a URL", base_url=value)


@pytest.mark.parametrize(
    "value",
    [
        "https://a.org/ https://b.org",
        "https://a.org, https://b.org/",
        '["https://a.org", "https://b.org/"]',
    ],
)
def test_former_base_urls_are_a_list(value):
    settings = {"attachment.base_path": "/tmp", "attachment.former_base_urls": native_value(value)}

    assert Settings.from_kinto(settings).former_base_urls == ("https://a.org/", "https://b.org/")


def test_locations_are_made_relative_by_any_base_url():
    settings = read(
        base_url="https://a.org/f",
        former_base_urls="https://old.org/ https://old.org/deep/",
        **{"extra.base_url": "https://b.org"},
    )

    def names(location):
        return list(settings.relative_names(location))

    assert names("https://a.org/f/x/y.txt") == ["x/y.txt"]
    assert names("https://b.org/y.txt") == ["y.txt"]
    assert names("https://old.org/deep/y.txt") == ["y.txt", "deep/y.txt"]
    assert names("x/y.txt") == ["x/y.txt"]
    assert names("https://elsewhere.org/y.txt") == []
    assert names("/x/y.txt") == []
    assert names(5) == names(None) == []


@pytest.mark.parametrize(
    "value", ["{bucket_id}/{collection_id}", "/{bucket_id}/", "files", "a/b-{collection_id}"]
)
def test_folders(value):
    folder = read(folder=value).for_collection("b", "c").folder

    filled = folder.fill(bucket_id="b", collection_id="c")
    assert filled == value.strip("/").format(bucket_id="b", collection_id="c")


@pytest.mark.parametrize(
    "value",
    [
        "{bucket}",
        "{bucket_id",
        "bucket_id}",
        "{bucket_id.__class__}",
        "{bucket_id[0]}",
        "{bucket_id!r}",
        "{bucket_id:>10}",
        "{}",
        "{{bucket_id}}",
        "{filename}",
    ],
)
def test_braces_that_are_no_placeholders(value):
    stopped("kinto.attachment.folder should have no braces but those of {bucket_id}", folder=value)
    stopped("should have no braces", filename_pattern=value.replace("filename", "bucket_id"))


@pytest.mark.parametrize("value", ["../up", "a//b", "a/./b", "..", "a b", "a%20b", "é", "a\\b"])
def test_folders_that_would_be_another_url(value):
    stopped("kinto.attachment.folder should be folders", folder=value)


@pytest.mark.parametrize("value", ["", "a/{filename}", "a b"])
def test_patterns_that_are_no_name(value):
    stopped("kinto.attachment.filename_pattern should be", filename_pattern=value)


@pytest.mark.parametrize(
    ("value", "allowed", "refused"),
    [
        ("any", ["jpg", "exe", ""], []),
        ("images", ["jpg", "png"], ["pdf", ""]),
        ("images+documents", ["jpg", "pdf"], ["exe"]),
        ("images+any", ["exe"], []),
        ("pdf", ["pdf"], ["jpg"]),
        ("PDF + .epub", ["pdf", "epub"], ["jpg"]),
        ("images+pdf epub", ["jpg", "pdf", "epub"], ["exe"]),
        ("default", ["txt", "json"], ["exe", "rst"]),
        ("images pdf", ["jpg", "pdf"], ["images"]),
        ('["images", "pdf"]', ["jpg", "pdf"], ["images"]),
        ("pdf any", ["exe"], []),
        ("raster-images", ["jpg", "png", "tif", "webp"], ["svg", "pdf"]),
    ],
)
def test_extensions_are_groups_and_extensions(value, allowed, refused):
    extensions = read(extensions=value).for_collection("b", "c").extensions

    storage = open_storage(LocalOptions("/tmp/files"))
    for name in allowed + refused:
        is_allowed = not extensions or storage.filename_allowed(f"file.{name}", extensions)
        assert is_allowed == (name in allowed)


@pytest.mark.parametrize(
    "value",
    ["", "images+", "a/b", "images;pdf", "images,pdf", "images, pdf", "*.pdf", "a|b", "'pdf'"],
)
def test_extensions_that_are_none(value):
    stopped("kinto.attachment.extensions should be groups", extensions=value)


def test_media_types_by_extension():
    value = ".ftl:application/vnd.fluent; DB : application/vnd.sqlite3 ;"

    assert read(mimetypes=value).for_collection("b", "c").mimetypes == {
        ".ftl": "application/vnd.fluent",
        ".db": "application/vnd.sqlite3",
    }


@pytest.mark.parametrize("value", ["ftl", ".ftl:", ".ftl:fluent", ":a/b", ".a:b/c d"])
def test_media_types_that_are_none(value):
    stopped("kinto.attachment.mimetypes should be like", mimetypes=value)


@pytest.mark.parametrize("value", ["public, max-age=31536000, immutable", "no-store", "60"])
def test_how_long_files_may_be_cached(value):
    settings = read(cache_control=value, **{"resources.b.cache_control": ""})

    assert settings.for_collection("a", "c").cache_control == value
    assert settings.for_collection("b", "c").cache_control is None


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\tb", "é", "a\x7f", "a\0b"])
def test_what_no_header_can_hold(value):
    stopped("kinto.attachment.cache_control should be a value of HTTP's", cache_control=value)


@pytest.mark.parametrize("value", ["10m", "-1", "1.5", "1e6", "true", "", "ten"])
def test_sizes_are_whole_numbers(value):
    stopped("kinto.attachment.max_size_bytes should be a whole number", max_size_bytes=value)


@pytest.mark.parametrize("value", ["2", "maybe", "", "null"])
def test_booleans_are_true_or_false(value):
    stopped("kinto.attachment.keep_old_files should be true or false", keep_old_files=value)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("On", True), ("0", False)])
def test_booleans(value, expected):
    assert read(keep_old_files=value).for_collection("b", "c").keep_old_files is expected


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_seconds_are_more_than_none(value):
    stopped("aws.timeout should be", base_path="", **{"aws.bucket": "b", "aws.timeout": value})


def test_an_unknown_acl():
    stopped("aws.acl should be empty or one of", **{"aws.acl": "public"})


def test_the_name_of_the_setting_in_version_0_4():
    assert read({"kinto.keep_old_files": "true"}).defaults.keep_old_files is True
    assert read({"kinto.keep_old_files": "yes"}).defaults.keep_old_files is True
    assert read({"kinto.keep_old_files": "true"}, keep_old_files="1").defaults.keep_old_files


def test_both_names_contradict_each_other():
    with pytest.raises(ConfigurationError, match="contradict each other"):
        read({"kinto.keep_old_files": "true"}, keep_old_files="false")


def test_the_old_name_with_a_wrong_value():
    with pytest.raises(ConfigurationError, match=r"kinto\.keep_old_files should be true or false"):
        read({"kinto.keep_old_files": "maybe"})


def test_the_nearest_settings_hold():
    settings = read(
        folder="all",
        randomize="false",
        **{
            "resources.b.folder": "of-b",
            "resources.b.max_size_bytes": "10",
            "resources.b.c.max_size_bytes": "20",
            "resources.x.y.folder": "of-y",
        },
    )

    def of(bucket, collection):
        found = settings.for_collection(bucket, collection)
        return found.folder.text, found.max_size_bytes, found.randomize

    assert of("b", "c") == ("of-b", 20, False)
    assert of("b", "other") == ("of-b", 10, False)
    assert of("x", "y") == ("of-y", 0, False)
    assert of("x", "other") == of("other", "c") == ("all", 0, False)


ALIAS = {"kinto.includes": "kinto.plugins.default_bucket kinto_attachment"}


@pytest.mark.parametrize("key", ["resources.default.folder", "resources.default.c.folder"])
def test_settings_of_the_alias_would_apply_to_no_bucket(key):
    with pytest.raises(ConfigurationError) as stop:
        read(ALIAS, **{key: "x"})

    assert f"kinto.attachment.{key} would apply to no bucket" in str(stop.value)
    assert "Set kinto.attachment.folder" in str(stop.value)


def test_a_bucket_may_be_called_like_the_alias():
    settings = read(**{"resources.default.folder": "x"})

    assert settings.for_collection("default", "c").folder.text == "x"


def test_the_quotas_of_a_bucket_and_of_its_collection_both_hold():
    settings = read(
        **{
            "quota_bytes": "0",
            "resources.b.quota_bytes": "10",
            "resources.b.quota_files": "2",
            "resources.b.c.quota_bytes": "0",
            "resources.b.d.quota_files": "1",
            "resources.b.d.folder": "x",
        }
    )

    assert settings.quotas == {
        "/buckets/b": Quota(10, 2),
        "/buckets/b/collections/d": Quota(0, 1),
    }
    assert settings.has_quota({"bucket_id": "b", "collection_id": "e"})
    assert not settings.has_quota({"bucket_id": "bb", "collection_id": "d"})
    assert read(quota_files="3").quotas == {"": Quota(0, 3)}
    assert read().quotas == {}


def test_every_setting_by_collection():
    names = [item.name for item in SCHEMA if item.by_collection]

    assert sorted(names) == [
        "cache_control",
        "extensions",
        "filename_pattern",
        "folder",
        "keep_old_files",
        "max_size_bytes",
        "mimetypes",
        "private",
        "quota_bytes",
        "quota_files",
        "randomize",
    ]
    defaults = {item.name: item.default for item in SCHEMA}
    for name in names:
        default = defaults[name] or ""
        read(**{f"resources.b.{name}": default, f"resources.b.c.{name}": default})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("max_size_byte", "kinto.attachment.max_size_bytes"),
        ("folders", "kinto.attachment.folder"),
        ("aws.bukket", "kinto.attachment.aws.bucket"),
        ("baseurl", "kinto.attachment.base_url"),
        ("resources.b.base_url", "kinto.attachment.resources.b."),
        ("resources.b.c.folders", "kinto.attachment.resources.b.c.folder"),
        ("resources.b.c.d.folder", "kinto.attachment.resources.b.c.folder"),
        ("resources.folder", "kinto.attachment.resources.bucket.folder"),
        ("resources..folder", "kinto.attachment.resources.bucket.folder"),
        ("resources.b@.folder", "kinto.attachment.resources.b.folder"),
        ("resources", "kinto.attachment."),
    ],
)
def test_a_key_that_is_none_names_the_nearest(key, nearest):
    stopped(f"kinto.attachment.{key}", **{key: "x"})
    stopped(nearest, **{key: "x"})


def test_files_are_served_from_the_local_disk_only():
    stopped("serves the local disk only", base_path="", serve_files="true", **{"aws.bucket": "b"})


@pytest.mark.parametrize(
    ("pattern", "name", "is_random"),
    [
        ("{filename}", "x/1b4e28ba-2fa1-41d2-883f-0016d3cca427.png", True),
        ("{filename}", "x/a-1b4e28ba-2fa1-41d2-883f-0016d3cca427.png", False),
        (
            "{datetime}--{rid}--{filename}",
            "20261126101500--r_1--1b4e28ba-2fa1-41d2-883f-0016d3cca427.png",
            True,
        ),
        ("{datetime}--{rid}--{filename}", "1b4e28ba-2fa1-41d2-883f-0016d3cca427", True),
        ("{datetime}--{rid}--{filename}", "20261126101500--r1--photo.png", False),
        ("{rid}", "r1", False),
    ],
)
def test_random_names_are_known_by_their_pattern(pattern, name, is_random):
    settings = read(filename_pattern=pattern, base_path="/tmp/files")

    assert settings.is_random(name) is is_random

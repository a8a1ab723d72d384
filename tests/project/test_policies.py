"""docs/policies: JSON for the buckets, complete for what the package asks of them."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase

import boto3
import pytest
from botocore.validate import validate_parameters

from kinto_attachment.settings import parsers
from kinto_attachment.settings.schema import SCHEMA
from kinto_attachment.storage import names
from kinto_attachment.storage.gcloud import bucket as google_bucket
from tests.support.documents import CHECKOUT

POLICIES = CHECKOUT / "docs" / "policies"
STORAGE, PRIVATE = ((CHECKOUT / f"docs/{name}.rst").read_text() for name in ("storage", "private"))
NGINX = (CHECKOUT / "deploy/etc/nginx/kinto/files-s3.conf").read_text()
S3 = CHECKOUT / "kinto_attachment" / "storage" / "s3"

BUCKET = "arn:aws:s3:::my-bucket"
PRIVATE_BUCKET = "arn:aws:s3:::my-private-bucket"
SERVER = "arn:aws:iam::123456789012:role/kinto"
# What each operation of boto3 needs, and whether on the bucket or on its objects:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-delete-enforce.html
NEEDED = {
    "abort_multipart_upload": {("s3:AbortMultipartUpload", "object")},
    "complete_multipart_upload": {("s3:PutObject", "object")},
    "create_multipart_upload": {("s3:PutObject", "object")},
    "delete_object": {("s3:DeleteObject", "object"), ("s3:GetObject", "object")},
    "get_object": {("s3:GetObject", "object")},
    "head_object": {("s3:GetObject", "object")},
    "list_multipart_uploads": {("s3:ListBucketMultipartUploads", "bucket")},
    "list_objects_v2": {("s3:ListBucket", "bucket")},
    "list_parts": {("s3:ListMultipartUploadParts", "object")},
    "put_object": {("s3:PutObject", "object")},
    "upload_part": {("s3:PutObject", "object")},
    "upload_part_copy": {("s3:PutObject", "object"), ("s3:GetObject", "object")},
}


def content(name):
    return json.loads((POLICIES / name).read_text())


def operations():
    """The operations of S3 that the package uses."""
    text = "".join(path.read_text() for path in S3.rglob("*.py"))
    calls = re.findall(r"\bclient\.(\w+)[(,]", text)
    return {*calls, *re.findall(r'get_paginator\("(\w+)"', text)} - {"get_paginator"}


def listed(value):
    return [value] if isinstance(value, str) else value


def nginx_header(name):
    """What the location /presigned/ of deploy/ says in a header with a list."""
    (text,) = re.findall(rf'add_header {name}\s+"(.+?)" always', NGINX)
    return set(text.split(", "))


def allowed(policy, action, resource, principal=None, tls=True):
    """Whether a policy of Allow and Deny, with the two conditions that are used, allows it."""
    effects = set()
    for statement in policy["Statement"]:
        condition = statement.get("Condition", {})
        role = condition.get("StringNotEquals", {}).get("aws:PrincipalArn")
        secure = condition.get("Bool", {}).get("aws:SecureTransport")
        if (
            any(fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
            and any(fnmatchcase(resource, each) for each in listed(statement["Resource"]))
            # A key that the request does not have is not equal.
            and role != (principal or "nobody")
            and secure in (None, str(tls).lower())
        ):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("s3-iam-policy.json", {BUCKET}),
        ("s3-private-iam-policy.json", {BUCKET, PRIVATE_BUCKET}),
    ],
)
def test_the_server_s_policy_has_what_it_asks_for_and_nothing_else(name, buckets):
    granted = {
        (action, "object" if resource.endswith("/*") else "bucket", resource.removesuffix("/*"))
        for statement in content(name)["Statement"]
        for action in statement["Action"]
        for resource in listed(statement["Resource"])
    }

    assert operations() == set(NEEDED)
    needed = set().union(*NEEDED.values())
    assert granted == {(*each, bucket) for each in needed for bucket in buckets}


def test_google_s_role_has_the_permissions_that_the_heartbeat_asks_for():
    permissions = [f"storage.objects.{verb}" for verb in google_bucket._PERMISSIONS]

    assert content("gcs-role.json")["includedPermissions"] == permissions


def test_everybody_reads_files_and_only_the_server_their_parts():
    policy = content("s3-bucket-policy.json")
    parts = [names.hidden(), names.hidden(None, "name"), names.hidden(None, "12")]

    for name in ("a.txt", "main/c/0d1b2c3d-0000-4000-8000-000000000000.part", "a.b.part"):
        assert allowed(policy, "s3:GetObject", f"{BUCKET}/{name}")
    for name in parts:
        assert not allowed(policy, "s3:GetObject", f"{BUCKET}/{name}")
        assert not allowed(policy, "s3:GetObject", f"{BUCKET}/{name}", SERVER[:-1])
        assert allowed(policy, "s3:GetObject", f"{BUCKET}/{name}", SERVER)
    assert not allowed(policy, "s3:ListBucket", BUCKET)
    assert not allowed(policy, "s3:PutObject", f"{BUCKET}/a.txt")


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject", "s3:ListBucket"])
def test_only_the_server_reads_private_files_whatever_else_is_allowed(action):
    policy = content("s3-private-bucket-policy.json")
    # As an administrator has it, or as a bucket policy that somebody adds by mistake.
    everything = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    policy["Statement"].append(everything)
    resource = PRIVATE_BUCKET if action == "s3:ListBucket" else f"{PRIVATE_BUCKET}/a.txt"

    # Presigned URLs count as requests of who signed them.
    assert allowed(policy, action, resource, SERVER)
    assert not allowed(policy, action, resource, SERVER, tls=False)
    assert allowed(policy, action, resource, f"{SERVER}-2") is (action != "s3:GetObject")
    assert allowed(policy, action, resource) is (action != "s3:GetObject")


@pytest.mark.parametrize(
    ("name", "operation", "parameter"),
    [
        ("s3-cors.json", "PutBucketCors", "CORSConfiguration"),
        ("s3-lifecycle.json", "PutBucketLifecycleConfiguration", "LifecycleConfiguration"),
        ("s3-private-access-block.json", "PutPublicAccessBlock", "PublicAccessBlockConfiguration"),
    ],
)
def test_s3_knows_what_each_file_says(name, operation, parameter):
    client = boto3.client("s3", region_name="us-east-1")
    shape = client.meta.service_model.operation_model(operation).input_shape

    validate_parameters({"Bucket": "my-bucket", parameter: content(name)}, shape)
    client.close()


def test_nothing_of_the_private_bucket_can_be_made_public():
    assert [*content("s3-private-access-block.json").values()] == [True] * 4


def test_s3_aborts_no_upload_that_can_be_resumed():
    (rule,) = content("s3-lifecycle.json")["Rules"]
    (expires,) = [setting for setting in SCHEMA if setting.name == "uploads.expires"]

    days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert days > parsers.expiry(expires.default).days


def test_the_rules_of_cors_are_the_same_for_both_providers():
    (s3,) = content("s3-cors.json")["CORSRules"]
    (google,) = content("gcs-cors.json")

    assert set(google) == {"origin", "method", "responseHeader", "maxAgeSeconds"}
    assert google["origin"] == s3["AllowedOrigins"] == ["*"]
    assert google["method"] == s3["AllowedMethods"] == ["GET", "HEAD"]
    # As nginx has them where it passes presigned URLs on: for GET, Google wants the others of a
    # request, too.
    assert set(s3["ExposeHeaders"]) == nginx_header("Access-Control-Expose-Headers")
    assert s3["AllowedHeaders"] == ["*"]
    sent = nginx_header("Access-Control-Allow-Headers")
    assert set(google["responseHeader"]) == {*s3["ExposeHeaders"], *sent, "Content-Type"}


@pytest.mark.parametrize("path", sorted(POLICIES.iterdir()), ids=lambda path: path.name)
def test_each_is_shown_and_applied_in_the_documentation(path):
    text = PRIVATE if "-private-" in path.name else STORAGE

    assert f"policies/{path.name}\n" in text
    assert re.search(rf"(file://|=){path.name}$", text, re.M)

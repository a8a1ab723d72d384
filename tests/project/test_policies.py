"""docs/policies: JSON for the buckets, complete for what the package asks of them."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase

import boto3
import pytest
from botocore.validate import validate_parameters

from kinto_attachment.storage import names
from tests.support.documents import CHECKOUT

POLICIES = CHECKOUT / "docs" / "policies"
STORAGE = (CHECKOUT / "docs" / "storage.rst").read_text()
S3 = CHECKOUT / "kinto_attachment" / "storage" / "s3"

BUCKET = "arn:aws:s3:::my-bucket"
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
    calls = re.findall(r"\bclient\.(\w+)\(", text)
    return {*calls, *re.findall(r'get_paginator\("(\w+)"', text)} - {"get_paginator"}


def allowed(policy, action, resource, principal=None):
    """Whether a policy of Allow and Deny, with the one condition that is used, allows it."""
    effects = set()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        condition = statement.get("Condition", {}).get("StringNotEquals", {})
        if (
            action in ([actions] if isinstance(actions, str) else actions)
            and fnmatchcase(resource, statement["Resource"])
            # A key that the request does not have is not equal.
            and condition.get("aws:PrincipalArn") != (principal or "nobody")
        ):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


def test_the_server_s_policy_has_what_it_asks_for_and_nothing_else():
    granted = {
        (action, "object" if statement["Resource"].endswith("/*") else "bucket")
        for statement in content("s3-iam-policy.json")["Statement"]
        for action in statement["Action"]
    }

    assert operations() == set(NEEDED)
    assert granted == set().union(*NEEDED.values())


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


def test_the_rules_of_cors_are_some_that_s3_knows():
    client = boto3.client("s3", region_name="us-east-1")
    shape = client.meta.service_model.operation_model("PutBucketCors").input_shape

    given = {"Bucket": "my-bucket", "CORSConfiguration": content("s3-cors.json")}
    validate_parameters(given, shape)
    client.close()


def test_the_rules_of_cors_are_the_same_for_both_providers():
    (s3,) = content("s3-cors.json")["CORSRules"]
    (google,) = content("gcs-cors.json")

    assert set(google) == {"origin", "method", "responseHeader", "maxAgeSeconds"}
    assert google["origin"] == s3["AllowedOrigins"] == ["*"]
    assert google["method"] == s3["AllowedMethods"] == ["GET", "HEAD"]
    assert set(s3["ExposeHeaders"]) < set(google["responseHeader"])


@pytest.mark.parametrize("path", sorted(POLICIES.iterdir()), ids=lambda path: path.name)
def test_each_is_shown_and_applied_in_the_documentation(path):
    assert f"policies/{path.name}\n" in STORAGE
    assert re.search(rf"(file://|=){path.name}$", STORAGE, re.M)

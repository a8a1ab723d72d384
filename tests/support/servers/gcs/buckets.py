"""Operations on buckets."""

from __future__ import annotations

import re
from typing import Any

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import Bucket
from tests.support.servers.gcs.errors import GcsError, invalid, load_json
from tests.support.servers.gcs.operations import Body, Operations
from tests.support.servers.gcs.requests import GcsRequest


class Buckets(Operations):
    def create_bucket(self, request: GcsRequest, body: Body) -> Answer:
        resource = load_json(body.read())
        if not request.query.get("project"):
            raise invalid("Required parameter: project", "required")
        name = resource.get("name", "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise invalid(f"Invalid bucket name: '{name}'")
        if name in self.server.buckets:
            raise GcsError(
                409,
                "conflict",
                "Your previous request to create the named bucket succeeded and you already own "
                "it.",
            )
        configuration = resource.get("iamConfiguration", {})
        uniform = configuration.get("uniformBucketLevelAccess", {}).get("enabled", False)
        acls = [request.query.get(key) for key in ("predefinedAcl", "predefinedDefaultObjectAcl")]
        if uniform and any(acls):
            raise invalid(
                "Cannot set predefined ACLs for a bucket when uniform bucket-level access is "
                "enabled."
            )
        bucket = self.server.create_bucket(name, uniform_access=uniform)
        bucket.acl = acls[0]
        return self.of_bucket(request, bucket)

    def get_bucket(self, request: GcsRequest, body: Body) -> Answer:
        if not self.server.allows_get_bucket:
            raise errors.forbidden(self.server.account.email, "storage.buckets.get", "bucket")
        return self.of_bucket(request, self.bucket(request.bucket))

    def permissions(self, request: GcsRequest, body: Body) -> Answer:
        self.bucket(request.bucket)
        asked = [value for key, value in request.pairs if key == "permissions"]
        if not asked:
            raise invalid("Required parameter: permissions", "required")
        has = self.server.permissions
        granted = [permission for permission in asked if has is None or permission in has]
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        if granted:
            answer["permissions"] = granted
        return self.of(request, answer)

    def of_bucket(self, request: GcsRequest, bucket: Bucket) -> Answer:
        return self.of(
            request,
            {
                "kind": "storage#bucket",
                "id": bucket.name,
                "name": bucket.name,
                "projectNumber": "1",
                "metageneration": "1",
                "location": "US",
                "locationType": "multi-region",
                "storageClass": "STANDARD",
                "etag": "CAE=",
                "iamConfiguration": {
                    "uniformBucketLevelAccess": {"enabled": bucket.uniform_access},
                    "publicAccessPrevention": (
                        "enforced" if self.server.public_access_prevention else "inherited"
                    ),
                },
            },
        )

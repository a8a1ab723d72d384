"""What readers without credentials, and those with a signed URL, ask of the XML API."""

from __future__ import annotations

from tests.support.servers.gcs import errors
from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import Bucket, StoredObject
from tests.support.servers.gcs.media import media_of
from tests.support.servers.gcs.operations import Body, Operations
from tests.support.servers.gcs.requests import GcsRequest


class Public(Operations):
    def public(self, request: GcsRequest, body: Body) -> Answer:
        bucket, query = self.bucket(request.bucket), request.query
        is_signed = "X-Goog-Signature" in query
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if is_signed:
            self.server.account.check_signed_url(request)
        elif token:
            self.server.account.check_token(token)
        elif not self._is_public(bucket, bucket.live.get(request.name)):
            raise errors.forbidden("Anonymous caller", "storage.objects.get")
        found = bucket.find(request.name, query.get("generation"))
        answer = media_of(found, request.headers, is_public=not is_signed)
        for key, value in query.items():
            if is_signed and key.startswith("response-"):
                answer.headers[key.removeprefix("response-").title()] = value
        return answer

    def _is_public(self, bucket: Bucket, stored: StoredObject | None) -> bool:
        if self.server.public_access_prevention:
            return False
        if self.server.public_bucket and bucket.name == self.server.bucket:
            return True
        return stored is not None and stored.acl == "publicRead" and not bucket.uniform_access

"""Operations on objects, but for the upload of their content."""

from __future__ import annotations

from typing import Any

from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.bucket import StoredObject
from tests.support.servers.gcs.checks import check_conditions, check_properties, number
from tests.support.servers.gcs.errors import invalid, load_json
from tests.support.servers.gcs.media import media_of
from tests.support.servers.gcs.operations import Body, Operations
from tests.support.servers.gcs.requests import GcsRequest

_MOST_ITEMS = 1000


class Objects(Operations):
    def get(self, request: GcsRequest, body: Body) -> Answer:
        return self.of_object(request, self._read(request))

    def media(self, request: GcsRequest, body: Body) -> Answer:
        return media_of(self._read(request), request.headers)

    def patch(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self.bucket(request.bucket)
        changes = load_json(body.whole())
        return self.of_object(request, bucket.patch(request.name, changes, request.query))

    def delete(self, request: GcsRequest, body: Body) -> Answer:
        self.bucket(request.bucket).delete(request.name, request.query)
        return Answer(204)

    def compose(self, request: GcsRequest, body: Body) -> Answer:
        bucket = self.bucket(request.bucket)
        wanted = load_json(body.whole())
        destination = wanted.get("destination") or {}
        stored = bucket.compose(
            request.name,
            wanted.get("sourceObjects"),
            check_properties(destination),
            request.query.get("destinationPredefinedAcl"),
            request.query,
        )
        return self.of_object(request, stored)

    def rewrite(self, request: GcsRequest, body: Body) -> Answer:
        source = self.bucket(request.bucket)
        to_bucket, to_name = request.destination
        resource = load_json(body.whole())
        found = source.find(request.name, request.query.get("sourceGeneration"))
        check_conditions(request.query, found, "ifSource")
        # What is given replaces everything; else all but the ACL is taken over.
        properties = check_properties(resource) if resource else dict(found.properties)
        stored = self.bucket(to_bucket).put(
            to_name,
            found.data,
            properties,
            request.query.get("destinationPredefinedAcl"),
            request.query,
            found.component_count,
        )
        if "/copyTo/" in request.path:
            return self.of_object(request, stored)
        answer = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(stored.size),
            "objectSize": str(stored.size),
            "done": True,
            "resource": self.resource(request, stored),
        }
        return self.of(request, answer)

    def list(self, request: GcsRequest, body: Body) -> Answer:
        bucket, query = self.bucket(request.bucket), request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        most = min(number("maxResults", query.get("maxResults", "0")) or _MOST_ITEMS, _MOST_ITEMS)
        after = _read_token(query.get("pageToken", ""))
        with bucket.lock:
            everything = dict(bucket.live.items())
        items: list[StoredObject] = []
        prefixes: list[str] = []
        token = last = ""
        for name in sorted(everything, key=str.encode):
            if (
                not name.startswith(prefix)
                or name.encode() < query.get("startOffset", "").encode()
                or ("endOffset" in query and name.encode() >= query["endOffset"].encode())
            ):
                continue
            entry, is_prefix = _cut(name, prefix, delimiter)
            if entry.encode() <= after.encode() or entry in prefixes[-1:]:
                continue
            if len(items) + len(prefixes) == most:
                token = last.encode().hex()
                break
            last = entry
            if is_prefix:
                prefixes.append(entry)
            else:
                items.append(everything[name])
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if token:
            answer["nextPageToken"] = token
        if prefixes:
            answer["prefixes"] = prefixes
        if items:
            answer["items"] = [self.resource(request, stored) for stored in items]
        return self.of(request, answer)

    def _read(self, request: GcsRequest) -> StoredObject:
        bucket = self.bucket(request.bucket)
        with bucket.lock:
            stored = bucket.find(request.name, request.query.get("generation"))
            check_conditions(request.query, stored, is_read=True)
            return stored


def _cut(name: str, prefix: str, delimiter: str | None) -> tuple[str, bool]:
    """What a list holds for a name: itself, or the prefix that it shares with others."""
    if delimiter:
        head, found, _ = name[len(prefix) :].partition(delimiter)
        if found:
            return prefix + head + found, True
    return name, False


def _read_token(token: str) -> str:
    try:
        return bytes.fromhex(token).decode()
    except ValueError:
        raise invalid("Invalid value for pageToken") from None

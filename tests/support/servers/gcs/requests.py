"""The requests of the JSON API: which operation each one is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, unquote

_OBJECTS = r"/b/(?P<bucket>[^/]+)/o"
_OBJECT = _OBJECTS + r"/(?P<name>[^/]+)"
_ROUTES = [
    ("POST", r"/token", "token"),
    ("POST", r"/storage/v1/b", "create_bucket"),
    ("GET", r"/storage/v1/b/(?P<bucket>[^/]+)", "get_bucket"),
    ("GET", r"/storage/v1/b/(?P<bucket>[^/]+)/iam/testPermissions", "permissions"),
    ("GET", rf"/storage/v1{_OBJECTS}", "list"),
    ("GET", rf"(/download)?/storage/v1{_OBJECT}", "get"),
    ("PATCH|PUT", rf"/storage/v1{_OBJECT}", "patch"),
    ("DELETE", rf"/storage/v1{_OBJECT}", "delete"),
    ("POST", rf"/storage/v1{_OBJECT}/compose", "compose"),
    (
        "POST",
        rf"/storage/v1{_OBJECT}/(rewriteTo|copyTo)/b/(?P<to_bucket>[^/]+)/o/(?P<to_name>[^/]+)",
        "rewrite",
    ),
    ("POST|PUT|DELETE", rf"/upload/storage/v1{_OBJECTS}", "upload"),
    ("GET|HEAD", r"/(?!(storage|upload|download|batch)/)(?P<bucket>[^/]+)/(?P<name>.+)", "public"),
]


def operation_of(
    method: str,
    path: str,
    query: Mapping[str, str] | str = "",
    headers: Mapping[str, str] | None = None,
) -> str:
    """What Google is asked for: ``insert`` (an upload in one request), ``start`` (a session),
    ``chunk``, ``status``, ``cancel``, ``get`` (metadata), ``media``, ``list``, ``patch``,
    ``compose``, ``rewrite``, ``delete``, ``permissions``, ``create_bucket``, ``get_bucket``,
    ``token``, ``public`` (what anonymous readers and signed URLs ask for), or ``unknown``.

    ``path`` may carry the query. Only the headers tell a chunk from a status query.
    """
    return GcsRequest.of(
        method,
        f"{path}?{query}" if query and isinstance(query, str) else path,
        headers or {},
        query if not isinstance(query, str) else None,
    ).operation


@dataclass
class GcsRequest:
    """What arrived. ``path`` is still quoted and without its query; ``received`` counts the bytes
    of the body."""

    method: str
    path: str
    pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    received: int = 0

    @classmethod
    def of(
        cls,
        method: str,
        target: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> GcsRequest:
        path, _, raw = target.partition("?")
        pairs = parse_qsl(raw, keep_blank_values=True, errors="surrogateescape")
        return cls(method, path, [*pairs, *(query or {}).items()], headers)

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(self.pairs)

    @cached_property
    def operation(self) -> str:
        return self._route[0]

    @property
    def bucket(self) -> str:
        return self._route[1]["bucket"]

    @property
    def name(self) -> str:
        """The object's name in the path."""
        return self._route[1]["name"]

    @property
    def destination(self) -> tuple[str, str]:
        """Bucket and name of a rewrite."""
        return self._route[1]["to_bucket"], self._route[1]["to_name"]

    @cached_property
    def _route(self) -> tuple[str, dict[str, str]]:
        for methods, pattern, operation in _ROUTES:
            match = re.fullmatch(pattern, self.path)
            if match and self.method in methods.split("|"):
                names = {
                    key: unquote(value, errors="surrogateescape")
                    for key, value in match.groupdict().items()
                }
                return self._refine(operation), names
        return "unknown", {}

    def _refine(self, operation: str) -> str:
        if operation == "get" and self.query.get("alt") == "media":
            return "media"
        if operation != "upload":
            return operation
        if "upload_id" in self.query:
            if self.method == "DELETE":
                return "cancel"
            asks = self.headers.get("Content-Range", "").startswith("bytes */")
            return "status" if asks else "chunk"
        if self.method != "POST":
            return "unknown"
        return "start" if self.query.get("uploadType") == "resumable" else "insert"

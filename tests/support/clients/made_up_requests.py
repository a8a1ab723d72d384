"""What schemathesis is to make up beside its own ideas: ids, fields and headers that Kinto accepts
often enough to get further than to a refusal.

https://schemathesis.readthedocs.io/en/stable/guides/extending/
"""

from __future__ import annotations

import json
import os
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.support.tus import OFFSET_TYPE, TUS, checksum, metadata

_TEXTS = st.text(max_size=10)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(_TEXTS, some, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["id", "last_modified", "attachment", "schema", "title", "read", "write"])
_OBJECTS = st.dictionaries(
    _NAMES | _TEXTS, _VALUES | st.sampled_from([["system.Everyone"], "r", None]), max_size=4
).map(json.dumps)

_BUCKET = os.environ["TEST_BUCKET"]
_NEW = "new"
"""An upload that is begun just before the request: see ``before_call()``."""
_LINK = "/link"
"""How the path ends where a link to a file is made."""
_IDS = st.fixed_dictionaries(
    {
        "bucket_id": st.sampled_from([_BUCKET, _BUCKET, _BUCKET, "default", "nowhere"]),
        "collection_id": st.sampled_from(["c", "c", "c", "new"]),
        "id": st.sampled_from(["r", "r", "s", "not@valid"]),
        "upload_id": st.sampled_from([_NEW, "fa5e3c2b-0000-4000-8000-000000000000"]),
    }
)
_RIGHT_IDS = st.fixed_dictionaries(
    {
        "bucket_id": st.just(_BUCKET),
        "collection_id": st.just("c"),
        "id": st.sampled_from("pqrs"),
        "upload_id": st.just(_NEW),
    }
)

_CONTENT = b"12345"
_CHECKSUMS = st.sampled_from([checksum(_CONTENT), checksum(_CONTENT, "sha256"), "md5 MTI="])
_VERSION = {name: st.just(value) for name, value in TUS.items()}
_CREATION_HEADERS = st.fixed_dictionaries(
    _VERSION,
    optional={
        "Upload-Length": st.sampled_from(["5", "5", "5", "0", "6"]),
        "Upload-Defer-Length": st.just("1"),
        "Upload-Metadata": st.sampled_from(
            [
                "",
                metadata(filename="f.txt", data={"title": "t"}),
                metadata(filename="f.txt", permissions={"read": ["system.Everyone"]}),
                metadata(filename="f.exe", filetype="text/plain", sha256="0" * 64),
                "filename not-base64",
            ]
        ),
        "Upload-Checksum": _CHECKSUMS,
    },
)
_RIGHT_CREATION_HEADERS = st.fixed_dictionaries(
    {**_VERSION, "Upload-Length": st.sampled_from(["0", "5", "6"])},
    optional={"Upload-Checksum": st.just(checksum(_CONTENT))},
)
_UPLOAD_HEADERS = st.fixed_dictionaries(
    {**_VERSION, "Upload-Offset": st.sampled_from(["0", "1"])},
    optional={"Upload-Length": st.sampled_from(["5", "6"]), "Upload-Checksum": _CHECKSUMS},
)
_RIGHT_UPLOAD_HEADERS = st.fixed_dictionaries({**_VERSION, "Upload-Offset": st.just("0")})
_DOWNLOAD_HEADERS = st.sampled_from(
    [
        {},
        {"Range": "bytes=1-2"},
        {"Range": "bytes=9-"},
        {"Range": f"bytes={'9' * 5000}-"},
        {"Range": "bytes=-1", "If-Range": '"x"'},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"If-Modified-Since": "Fri, 31 Dec 99999 23:59:59 GMT"},
    ]
)
_OVERRIDES = st.fixed_dictionaries(
    {"X-HTTP-Method-Override": st.sampled_from(["PATCH", "DELETE", "HEAD", "PUT"])}
)


@schemathesis.hook
def before_generate_path_parameters(
    context: Any, strategy: SearchStrategy[Any]
) -> SearchStrategy[Any]:
    return strategy | _IDS | _RIGHT_IDS | _RIGHT_IDS | _RIGHT_IDS


@schemathesis.hook
def before_generate_headers(context: Any, strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    path, method = context.operation.path, context.operation.method.upper()
    if not path.endswith("{upload_id}"):
        if method == "GET":
            return _DOWNLOAD_HEADERS
        if method != "POST" or path.endswith(_LINK):
            return strategy
        return strategy | _CREATION_HEADERS | _RIGHT_CREATION_HEADERS
    if method == "POST":
        both = st.builds(lambda some, more: {**some, **more}, _UPLOAD_HEADERS, _OVERRIDES)
        return strategy | both | both
    return strategy | _UPLOAD_HEADERS | _RIGHT_UPLOAD_HEADERS


@schemathesis.hook
def before_generate_body(context: Any, strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    if context.operation.path.endswith(_LINK):
        return strategy
    if context.operation.path.endswith("{upload_id}"):
        some = st.sampled_from([_CONTENT, _CONTENT, b"", b"123", b"1234567"])
        return strategy | some | some
    fields = st.fixed_dictionaries({}, optional={"data": _OBJECTS, "permissions": _OBJECTS})
    return strategy | st.builds(_with_fields, strategy, fields)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Begin an upload to go on with, or attach a file to read; or send what a client sends that
    begins an upload."""
    if case.path_parameters.get("bucket_id") == "0":
        # Where it tries what may be wrong with headers and bodies, it has this for each id.
        found = {"bucket_id": _BUCKET, "collection_id": "c", "upload_id": _NEW}
        case.path_parameters.update({name: found.get(name, "r") for name in case.path_parameters})
    if case.path_parameters.get("upload_id") == _NEW:
        begun = _post(case, headers={**TUS, "Upload-Length": str(len(_CONTENT))})
        if begun.status_code == 201:
            case.path_parameters["upload_id"] = begun.headers["Location"].rpartition("/")[2]
    elif _reads(case) and case.path_parameters.get("id") in ("p", "q", "r"):
        # None of those that other requests create and delete.
        case.path_parameters.update(bucket_id=_BUCKET, collection_id="c", id="read")
        _post(case, files={"attachment": ("f.txt", _CONTENT)})
    elif _begins_upload(case) and case.headers.get("Upload-Length") in ("0", "5"):
        case.media_type = OFFSET_TYPE
        case.headers["Content-Type"] = OFFSET_TYPE
        case.body = _CONTENT[: int(case.headers["Upload-Length"])]


def _post(case: Any, **arguments: Any) -> requests.Response:
    """POST to the attachment that the request is about."""
    path = case.operation.path.partition("/uploads/")[0].removesuffix(_LINK)
    path = path.format(**case.path_parameters)
    url = os.environ["TEST_URL"] + path.removeprefix("/v1").lstrip("/")
    auth = tuple(os.environ["TEST_USER"].split(":"))
    return requests.post(url, auth=auth, timeout=60, **arguments)


@schemathesis.serializer(OFFSET_TYPE)
def as_it_is(context: Any, value: Any) -> bytes:
    """The body of a request with a part of a file."""
    content = getattr(value, "data", value)
    return content if isinstance(content, bytes) else str(content).encode()


@schemathesis.check
def body_conformance(context: Any, response: Any, case: Any) -> bool | None:
    """Schemathesis' own check, but for an answer without a body. OpenAPI 2.0 cannot say that there
    may be one."""
    if _begins_upload(case) and response.status_code == 201:
        assert response.content == b""
        return None
    return response_schema_conformance(context, response, case)


def _reads(case: Any) -> bool:
    return case.method.upper() == "GET" or case.operation.path.endswith(_LINK)


def _begins_upload(case: Any) -> bool:
    headers = case.headers or {}
    is_creation = case.method.upper() == "POST" and not case.operation.path.endswith(_LINK)
    return is_creation and "Tus-Resumable" in headers


def _with_fields(body: Any, fields: dict[str, str]) -> Any:
    return {**body, **fields} if isinstance(body, dict) else body

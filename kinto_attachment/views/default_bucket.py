"""Uploads and downloads through the ``default`` bucket alias, streamed.

Kinto's own view of the alias reads the whole body, to look for an id in it, and creates bucket and
collection, whatever the method. For attachments, these go before it: they hand the request on to
the endpoint of the user's own bucket. Bucket and collection are created once a file is stored.
"""

from __future__ import annotations

import re
from typing import Any

from kinto.core.utils import build_request
from kinto.plugins.default_bucket import create_bucket, create_collection
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.settings import aslist

from kinto_attachment.errors import Forbidden, answered
from kinto_attachment.settings import DEFAULT_BUCKET_PLUGIN
from kinto_attachment.views import download

# What build_request() does not copy from the original request, and makes up.
_ENVIRON = (
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_HOST",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "wsgi.input",
    "wsgi.input_terminated",
    "wsgi.url_scheme",
)


def register(config: Any) -> None:
    """Add the views if Kinto's default bucket is enabled.

    Call it before the endpoint of records is added: that route would take the alias for a bucket.
    """
    settings = config.get_settings()
    if DEFAULT_BUCKET_PLUGIN not in aslist(settings["includes"]):
        return
    # Kinto may include it only after this plugin; Pyramid includes it once.
    config.include(DEFAULT_BUCKET_PLUGIN)
    prefix = re.escape(f"/{config.route_prefix}")
    segment = "[^/]+"
    attachment = f"^{prefix}/buckets/default/collections/{segment}/records/{segment}/attachment"
    config.add_view(
        default_bucket_attachment,
        route_name="default_bucket_collection",
        request_method="POST",
        path_info=f"{attachment}$",
        permission=NO_PERMISSION_REQUIRED,
    )
    for methods, path in (
        (("GET", "HEAD"), f"{attachment}$"),
        ("POST", f"{attachment}/link$"),
        (("HEAD", "PATCH", "DELETE", "POST"), f"{attachment}/uploads/{segment}$"),
    ):
        config.add_view(
            default_bucket_other,
            route_name="default_bucket_collection",
            request_method=methods,
            path_info=path,
            permission=NO_PERMISSION_REQUIRED,
        )


def default_bucket_attachment(request: Any) -> Any:
    """Hand an upload on to the user's own bucket, which is created if it does not exist."""
    subrequest = _in_own_bucket(request)
    bucket_id = request.default_bucket_id

    def create_parents() -> None:
        create_bucket(request, bucket_id)
        create_collection(request, bucket_id)

    subrequest.create_parents = create_parents
    return request.invoke_subrequest(subrequest)


def default_bucket_other(request: Any) -> Any:
    """Hand on a request that creates nothing: a download, a link, or one on a resumable upload."""
    download.without_challenge(request)
    return request.invoke_subrequest(_in_own_bucket(request))


@answered()
def _in_own_bucket(request: Any) -> Any:
    if request.authenticated_userid is None:
        raise Forbidden()
    path = request.path.replace("/buckets/default/", f"/buckets/{request.default_bucket_id}/", 1)
    subrequest = build_request(request, {"method": request.method, "path": path})
    subrequest.through_alias = True
    subrequest.bound_data = request.bound_data
    for name in _ENVIRON:
        if name in request.environ:
            subrequest.environ[name] = request.environ[name]
        else:
            # A made-up CONTENT_LENGTH of 0 would end a chunked body before it begins.
            subrequest.environ.pop(name, None)
    # The stream is the subrequest's to read and to let go of.
    del request.environ["wsgi.input"]
    return subrequest

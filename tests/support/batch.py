"""Several requests in one, as Kinto's batch endpoint takes them."""

from __future__ import annotations

from typing import Any

from tests.conftest import KintoApp


def batch(app: KintoApp, *requests: tuple[Any, ...], status: int = 200) -> list[int]:
    """Send requests of ``(method, path, body, content_type)``, the last two only where there is
    one; return the status of each answer. ``status`` is that of the batch."""
    sent = []
    for method, path, *rest in requests:
        request = {"method": method, "path": path}
        if rest:
            request["body"] = rest[0]
        if rest[1:]:
            request["headers"] = {"Content-Type": rest[1]}
        sent.append(request)
    answer = app.post_json("/v1/batch", {"requests": sent}, status=status).json
    return [response["status"] for response in answer.get("responses", ())]

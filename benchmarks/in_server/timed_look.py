"""The header ``Server-Timing`` with what the last look of a request has taken."""

from __future__ import annotations

import time
from typing import Any

from kinto_attachment.attachments import last_look


def includeme(config: Any) -> None:
    """Measure the one that the tween takes: a DELETE has no other."""
    take = last_look.last_look

    def timed(request: Any) -> None:
        start = time.perf_counter()
        take(request)
        milliseconds = (time.perf_counter() - start) * 1000
        request.add_response_callback(
            lambda _, response: response.headers.update(
                {"Server-Timing": f"last-look;dur={milliseconds:.4f}"}
            )
        )

    last_look.last_look = timed

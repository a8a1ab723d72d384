"""The least that a WSGI application does to send a file: that of the environment's ``FILE``.

https://peps.python.org/pep-3333/#optional-platform-specific-file-handling
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 256 * 1024


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    file = Path(os.environ["FILE"]).open("rb")  # noqa: SIM115 - the server closes it
    size = os.fstat(file.fileno()).st_size
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
    start_response("200 OK", headers)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, _BLOCK_BYTES)
    return wrapped

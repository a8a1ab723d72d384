"""The check of ``__heartbeat__``: whether files can be stored."""

from __future__ import annotations

import logging
from typing import Any

from pyramid.settings import asbool

from kinto_attachment.storage import FileStorage, NewFile, StorageUnavailable

logger = logging.getLogger(__name__)

_CONTENT = b"Heartbeat of kinto-attachment."


def heartbeat(request: Any) -> bool:
    """Write a small file, read it back, and delete it. A read-only server passes without."""
    if asbool(request.registry.settings["readonly"]):
        return True
    files: FileStorage = request.attachment
    try:
        staged = files.stage(NewFile("heartbeat.txt", content_type="text/plain"))
        try:
            staged.write(_CONTENT)
            name = staged.finish()
        finally:
            staged.discard()
        try:
            return b"".join(files.read(name)) == _CONTENT
        finally:
            files.delete(name)
    except (StorageUnavailable, FileNotFoundError):
        logger.exception("The file storage does not work.")
        return False

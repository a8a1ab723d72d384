"""Whether files can be stored: what ``__heartbeat__`` says of ``attachments``."""

from __future__ import annotations

import logging
from typing import Any

from pyramid.settings import asbool

from kinto_attachment.storage import NewFile, StorageUnavailable

logger = logging.getLogger(__name__)

_CONTENT = b"Heartbeat of kinto-attachment."


def heartbeat(request: Any) -> bool:
    """Write a small file, read it back, and delete it; a read-only server does not try."""
    if asbool(request.registry.settings["readonly"]):
        return True
    storage = request.attachment
    try:
        staged = storage.stage(NewFile("heartbeat.txt", content_type="text/plain"))
        try:
            staged.write(_CONTENT)
            name = staged.finish()
        finally:
            staged.discard()
        try:
            return b"".join(storage.read(name)) == _CONTENT
        finally:
            storage.delete(name)
    except (StorageUnavailable, FileNotFoundError):
        logger.exception("The file storage does not work.")
        return False

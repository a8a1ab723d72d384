"""Files that no record references, and what a command has found."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.support.records import Record

DAY = 24 * 3600
# Names as the plugin gives them.
STRAY = "0d1b2c3d-0000-4000-8000-000000000000.txt"
ANOTHER = "0d1b2c3d-0000-4000-8000-000000000001.txt"
LARGE = "0d1b2c3d-0000-4000-8000-000000000002.bin"
PART = ".0d1b2c3d-0000-4000-8000-000000000003.part"
# What an earlier version notes of an upload.
LINK = """
INSERT INTO objects (id, parent_id, resource_name, data, deleted)
VALUES ('l', '__attachments__', '', '{"location": "1.txt"}', FALSE)
"""


def grow_old(record: Record, days: float = 2) -> None:
    """All the files were written days ago."""
    then = time.time() - days * DAY
    for name in record.files():
        os.utime(record.stored.path_of(name), (then, then))


def names(result: Any) -> list[str]:
    """The names of the files in a command's answer."""
    return [finding["name"] for finding in result.findings]

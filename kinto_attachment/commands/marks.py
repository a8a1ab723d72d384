"""The marks of orphans: when ``gc --mark`` has found each of them first. One row for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transaction
from kinto.core.utils import msec_time

from kinto_attachment.commands.batches import batches
from kinto_attachment.database.rows import Rows

MARKS = "attachments-marks"


def mark(kinto_storage: Any, names: Iterable[str]) -> int:
    """Mark files that have no mark; return how many."""
    rows, count = Rows(kinto_storage), 0
    for batch in batches(names):
        with transaction.manager:
            for name in batch:
                rows.put(MARKS, name, {"name": name, "since": msec_time()})
        count += len(batch)
    return count


def unmark(kinto_storage: Any, names: Iterable[str]) -> int:
    """Remove marks; return how many."""
    rows, count = Rows(kinto_storage), 0
    for batch in batches(names):
        with transaction.manager:
            rows.delete_many(MARKS, batch)
        count += len(batch)
    return count

"""Objects of Kinto's storage, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kinto.core.storage import Filter, Sort
from kinto.core.utils import COMPARISON

# Objects read at a time.
PAGE = 500


def pages(
    storage: Any, resource_name: str, parent_id: str, filters: list[Filter] | None = None
) -> Iterator[dict[str, Any]]:
    """All the objects of a parent.

    A page may be shorter than asked for: ``storage_max_fetch_size`` limits it.
    """
    rules = None
    while True:
        page = storage.list_all(
            resource_name=resource_name,
            parent_id=parent_id,
            filters=filters,
            sorting=[Sort("id", 1)],
            pagination_rules=rules,
            limit=PAGE,
        )
        if not page:
            return
        yield from page
        rules = [[*(filters or []), Filter("id", page[-1]["id"], COMPARISON.GT)]]

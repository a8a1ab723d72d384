"""Clean-up that must not fail what it follows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def best_effort(what: str, step: Callable[..., object], *args: Any) -> bool:
    """Call ``step(*args)``; log its exception ("Could not (what) entirely") and return ``False``
    if it raises one."""
    try:
        step(*args)
    except Exception:
        logger.warning("Could not %s entirely", what, exc_info=True)
        return False
    return True

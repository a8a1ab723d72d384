"""Programs for which file permissions count, though root starts them."""

from __future__ import annotations

import os


def as_a_user_like_others() -> list[str]:
    """What to put before a command, so that it may read and write only what permissions allow."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

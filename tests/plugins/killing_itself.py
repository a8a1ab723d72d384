"""A plugin that kills its process at the third change of records, as the kernel may."""

from __future__ import annotations

import os
import signal
from typing import Any

from kinto.core.events import ResourceChanged

_told = []


def includeme(config: Any) -> None:
    config.add_subscriber(_kill, ResourceChanged, for_resources=("record",))


def _kill(event: Any) -> None:
    _told.append(event)
    if len(_told) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

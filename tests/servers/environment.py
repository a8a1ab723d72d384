"""The environment of programs that tests start."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """That of the tests, for programs in Python that run nothing of the package: coverage would
    only slow them down."""
    return {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}

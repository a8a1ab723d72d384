"""Random days of a site, held against a model of it.

``make model MINUTES=30`` has as many days as that; ``make tests`` the same few each time.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import KintoApp
from tests.model.days import SETTINGS
from tests.model.operator import Operator
from tests.model.plugins import INCLUDES, OtherPlugins
from tests.model.site import Site

MINUTES = float(os.environ.get("MODEL_MINUTES", 0))
SEED = os.environ.get("MODEL_SEED")

DAYS = {"memory": OtherPlugins, "postgresql": Operator}

BASIC = settings(
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
    print_blob=False,
)
SHORT = settings(BASIC, derandomize=True, stateful_step_count=40)
EXAMPLES = {"memory": 20, "postgresql": 8}
LONG = settings(BASIC, max_examples=10, stateful_step_count=60)


@pytest.fixture
def site(start_app: Callable[..., KintoApp], backend: str, files, request) -> Site:
    def start(base_url: str) -> KintoApp:
        return start_app({**SETTINGS, "base_url": base_url}, **{"kinto.includes": INCLUDES})

    database = request.getfixturevalue("kinto_database") if backend == "postgresql" else None
    return Site(start, files, database and database.clean)


def test_no_file_is_lost_and_none_is_left(site, backend):
    def days() -> None:
        return DAYS[backend](site)

    if SEED:
        run_state_machine_as_test(seed(int(SEED))(days), settings=LONG)
    elif not MINUTES:
        run_state_machine_as_test(days, settings=settings(SHORT, max_examples=EXAMPLES[backend]))
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        number = random.getrandbits(32)
        print(f"MODEL_SEED={number}")
        run_state_machine_as_test(seed(number)(days), settings=LONG)

"""Kinto under gunicorn, with PostgreSQL and real file storages: killed, crowded, and let down."""

import pytest

# What these find missing should be shown, as it is for tests.
pytest.register_assert_rewrite(
    "tests.live.answers", "tests.live.site", "tests.live.verifier", "tests.live.waiting"
)

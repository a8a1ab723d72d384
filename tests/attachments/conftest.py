"""A record that shows a file."""

from __future__ import annotations

from tests.support.records import (
    bucket,
    kinto_settings,
    make_record,
    record,
    stored,
    subscribe,
    take_stock,
    where,
)

__all__ = [
    "bucket",
    "kinto_settings",
    "make_record",
    "record",
    "stored",
    "subscribe",
    "take_stock",
    "where",
]

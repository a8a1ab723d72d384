"""A record to send requests to."""

from __future__ import annotations

from tests.support.records import (
    bucket,
    kinto_settings,
    make_record,
    record,
    spied_record,
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
    "spied_record",
    "stored",
    "subscribe",
    "take_stock",
    "where",
]

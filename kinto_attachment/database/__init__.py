"""Kinto's database, beyond the interface of its storage backend."""

from __future__ import annotations

from kinto.core.utils import sqlalchemy

# Kinto brings SQLAlchemy with its extra "postgresql" only. Without it there is nothing to catch.
SQL_ERRORS: tuple[type[Exception], ...] = (
    () if sqlalchemy is None else (sqlalchemy.exc.SQLAlchemyError,)
)

UNAVAILABLE: tuple[type[Exception], ...] = (
    () if sqlalchemy is None else (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
)
"""The connection is lost, or the database cannot do its work now."""

"""Whose fault a 500 was, by the tracebacks in a server's log."""

from __future__ import annotations

from tests.chaos.logs import unexpected_errors

START = "2026-11-26 16:39:29,413 25196"
KINTOS = f"""\
{START} ERROR root server closed the connection unexpectedly
Traceback (most recent call last):
  File "/site-packages/pyramid_tm/__init__.py", line 82, in _finish
sqlalchemy.exc.OperationalError
"""
PLUGINS = f"""\
{START} ERROR root server closed the connection unexpectedly
Traceback (most recent call last):
  File "/checkout/kinto_attachment/database/transactions.py", line 90, in committed
sqlalchemy.exc.OperationalError
"""
OTHERS = f"""\
{START} INFO request.summary
{START} ERROR kinto_attachment.errors A file could not be stored or read.
Traceback (most recent call last):
OSError
"""


def test_the_plugins_errors_are_told_from_kintos_own(tmp_path):
    (tmp_path / "first-001.log").write_text(OTHERS + KINTOS + PLUGINS + OTHERS + PLUGINS)
    (tmp_path / "second-001.log").write_text(KINTOS)

    kintos, others = unexpected_errors(tmp_path)

    assert kintos == 2
    assert list(others.values()) == [2]
    assert "transactions.py" in next(iter(others))

"""Queries as the drivers of PostgreSQL take them."""

from __future__ import annotations

from kinto_attachment.database.objects import _of_driver


def test_parameters_are_named_as_the_drivers_do_and_all_else_stays() -> None:
    query = "SELECT :name::text, data->>'a' LIKE '5%' WHERE id = :id"

    assert _of_driver(query) == ("SELECT %(name)s::text, data->>'a' LIKE '5%%' WHERE id = %(id)s")

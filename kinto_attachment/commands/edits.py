"""Change records by a command as requests do: in transactions, and other plugins are notified."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import transaction
from kinto.core.events import ACTIONS, notify_resource_event
from pyramid.httpexceptions import HTTPException
from pyramid.request import Request
from pyramid.scripting import prepare

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.last_look import last_look
from kinto_attachment.database.commit import TRIES, may_pass
from kinto_attachment.database.objects import Object

logger = logging.getLogger(__name__)

BATCH = 100
"""Records written in one transaction."""

Edit = Callable[[Any, Holder], bool]
"""Changes a record by ``update()``; returns whether it has. Its arguments are a request, whose
``matchdict`` has the record's ids, and the record."""


def apply(registry: Any, holders: list[Holder], edit: Edit) -> tuple[int, dict[Holder, Exception]]:
    """Edit records of one collection in one transaction; one by one if that fails, for what is
    refused may be one of them only.

    Returns how many have changed, and why others could not be written.
    """
    try:
        return _apply(registry, holders, edit), {}
    except Exception:
        logger.debug("%s records are written one by one.", len(holders), exc_info=True)
    written, failed = 0, {}
    for holder in holders:
        try:
            written += _apply_to_one(registry, holder, edit)
        except Exception as error:
            # Subscribers of other plugins may raise anything.
            failed[holder] = error
    return written, failed


def reason(error: Exception) -> str:
    """Return why a record was not written, in Kinto's words if it has refused it."""
    if isinstance(error, HTTPException) and error.content_type == "application/json":
        return str(error.json["message"])
    return str(error)


def update(request: Any, holder: Holder, old: Object, new: Object) -> None:
    """Replace the record ``old`` by ``new``, which gets a timestamp."""
    without_time = {key: value for key, value in new.items() if key != "last_modified"}
    updated = request.registry.storage.update(**holder.key, obj=without_time)
    notify_resource_event(
        request,
        holder.parent_id,
        updated["last_modified"],
        updated,
        ACTIONS.UPDATE,
        old=old,
        resource_name="record",
        resource_data={**request.matchdict},
    )


def _apply_to_one(registry: Any, holder: Holder, edit: Edit) -> int:
    """Edit one record; try again after what can pass, like another write of the collection in the
    same millisecond."""
    for _ in range(TRIES - 1):
        try:
            return _apply(registry, [holder], edit)
        except Exception as error:
            if not may_pass(error):
                raise
    return _apply(registry, [holder], edit)


def _apply(registry: Any, holders: list[Holder], edit: Edit) -> int:
    request = Request.blank(f"/{registry.route_prefix}{holders[0].parent_id}/records")
    # History then has plugin:kinto-attachment as the user, as with other plugins.
    request.authn_type, request.selected_userid = "plugin", "kinto-attachment"
    with prepare(request, registry):
        with transaction.manager:
            written = 0
            for holder in holders:
                request.matchdict = {
                    "bucket_id": holder.bucket_id,
                    "collection_id": holder.collection_id,
                    "id": holder.record_id,
                }
                written += edit(request, holder)
            for event in request.get_resource_events():
                registry.notify(event)
            last_look(request)
        _notify_after_commit(request)
    return written


def _notify_after_commit(request: Any) -> None:
    for event in request.get_resource_events(after_commit=True):
        try:
            request.registry.notify(event)
        except Exception:
            logger.exception("A subscriber failed; the records are written all the same.")
    transaction.abort()

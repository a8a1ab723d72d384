"""A plugin that publishes a collection as signing plugins do: it copies records to another
collection straight through Kinto's storage, and sends the events by hand.

A write of a collection with ``publish``, the id of the other one, publishes it.
"""

from __future__ import annotations

from typing import Any

from kinto.core.events import ACTIONS, ResourceChanged, notify_resource_event


def includeme(config: Any) -> None:
    config.add_subscriber(
        on_collection_changed,
        ResourceChanged,
        for_resources=("collection",),
        for_actions=(ACTIONS.CREATE, ACTIONS.UPDATE),
    )


def on_collection_changed(event: Any) -> None:
    for change in event.impacted_objects:
        if "publish" in change["new"]:
            ids = (event.payload["bucket_id"], change["new"]["id"], change["new"]["publish"])
            _publish(event.request, *ids)


def _publish(request: Any, bucket_id: str, source_id: str, target_id: str) -> None:
    """Make the records of the target the same as those of the source."""
    storage = request.registry.storage
    parents = [f"/buckets/{bucket_id}/collections/{each}" for each in (source_id, target_id)]
    source, target = (
        {each["id"]: each for each in storage.list_all(resource_name="record", parent_id=parent)}
        for parent in parents
    )
    for record_id in source.keys() | target.keys():
        where = {"resource_name": "record", "parent_id": parents[1], "object_id": record_id}
        old = target.get(record_id)
        if record_id in source:
            action = ACTIONS.CREATE if old is None else ACTIONS.UPDATE
            new = storage.update(**where, obj=source[record_id])
        else:
            action, new = ACTIONS.DELETE, storage.delete(**where)
        notify_resource_event(
            request,
            parents[1],
            0,
            new,
            action,
            old,
            resource_name="record",
            resource_data={"bucket_id": bucket_id, "collection_id": target_id, "id": record_id},
        )

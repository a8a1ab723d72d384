"""A plugin that rolls a collection back as Remote Settings does: it makes the records of a
workspace those of the published collection again, straight through Kinto's storage, and sends
events of the *published* ones, which did not change.

A write of a collection with ``roll_back_to``, the id of the published one, rolls it back.
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
        if "roll_back_to" in change["new"]:
            ids = (event.payload["bucket_id"], change["new"]["id"], change["new"]["roll_back_to"])
            _roll_back(event.request, *ids)


def _roll_back(request: Any, bucket_id: str, workspace_id: str, published_id: str) -> None:
    storage = request.registry.storage
    parents = [f"/buckets/{bucket_id}/collections/{each}" for each in (workspace_id, published_id)]
    workspace, published = (
        {each["id"]: each for each in storage.list_all(resource_name="record", parent_id=parent)}
        for parent in parents
    )
    for record_id in sorted(workspace.keys() | published.keys()):
        where = {"resource_name": "record", "parent_id": parents[0]}
        old, new = workspace.get(record_id), published.get(record_id)
        if old is None:
            action, new = ACTIONS.CREATE, storage.create(**where, obj=new)
        elif new is None:
            action, new = ACTIONS.DELETE, storage.delete(**where, object_id=record_id)
        else:
            action, new = ACTIONS.UPDATE, storage.update(**where, object_id=record_id, obj=new)
        notify_resource_event(
            request,
            parents[1],
            0,
            new,
            action,
            old,
            resource_name="record",
            resource_data={"bucket_id": bucket_id, "collection_id": published_id, "id": record_id},
        )

"""Keep rows and files in step with records, collections and buckets, whoever changes them.

Kinto merges the events of a batch and loses their order. So an event only names the objects to
look at: each record is read again, and the rows are made to match it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from kinto.core.events import ACTIONS, ResourceChanged
from kinto.core.storage import Filter
from kinto.core.utils import COMPARISON

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.readers import Readers
from kinto_attachment.attachments.references import References
from kinto_attachment.database.objects import is_transactional, lock
from kinto_attachment.database.scan import PAGE, pages
from kinto_attachment.errors import Refusal, answered
from kinto_attachment.http.multipart import FILE
from kinto_attachment.tus.store import UploadStore


def register(config: Any) -> None:
    """Subscribe, before Kinto's own subscribers remove the children of what was deleted."""
    delete = (ACTIONS.DELETE,)
    config.add_subscriber(on_records_changed, ResourceChanged, for_resources=("record",))
    config.add_subscriber(
        on_collections_deleted,
        ResourceChanged,
        for_resources=("collection",),
        for_actions=delete,
    )
    config.add_subscriber(
        on_buckets_deleted, ResourceChanged, for_resources=("bucket",), for_actions=delete
    )


@answered()
def on_records_changed(event: Any) -> None:
    """Follow records that were created, updated or deleted."""
    is_trusted = _is_trusted(event.request)
    readers = None if is_trusted else Readers(event.request)
    references = _references(event.request, readers)
    # Of a record that was deleted without an event, the rows say what it held.
    trusted = is_trusted or event.payload["action"] == ACTIONS.CREATE.value
    bucket_id, collection_id = event.payload["bucket_id"], event.payload["collection_id"]
    holders = [Holder(bucket_id, collection_id, record_id) for record_id in _ids(event)]
    if event.payload["action"] == ACTIONS.DELETE.value:
        _terminate_uploads_to(event.request, holders)
        if len(holders) > 1:
            holders = _release_deleted(event.request, references, holders)
    refusals = []
    for holder in holders:
        try:
            references.sync(holder, trusted=trusted)
        except Refusal as refusal:
            if is_transactional(event.request.registry.storage):
                raise
            # The other records are written, and stay so.
            _restore(event.request, references, holder)
            refusals.append(refusal)
    if refusals:
        raise refusals[0]


def on_collections_deleted(event: Any) -> None:
    """Delete the records of collections that were deleted, and release their files."""
    for collection_id in _ids(event):
        _delete_records(event.request, event.payload["bucket_id"], collection_id)


def on_buckets_deleted(event: Any) -> None:
    """Delete the records of buckets that were deleted, and release their files."""
    kinto_storage = event.request.registry.storage
    for bucket_id in _ids(event):
        for collection in pages(kinto_storage, "collection", f"/buckets/{bucket_id}"):
            _delete_records(event.request, bucket_id, collection["id"])


def _delete_records(request: Any, bucket_id: str, collection_id: str) -> None:
    """Delete all the records of a collection, and release their files.

    Kinto itself would stop at ``storage_max_fetch_size``, and the rest would reappear with the
    next collection of that name.
    """
    kinto_storage = request.registry.storage
    references = _references(request)
    collection_uri = f"/buckets/{bucket_id}/collections/{collection_id}"
    # An upload that is about to write its record finishes first, or finds the collection gone.
    lock(kinto_storage, "collection", f"/buckets/{bucket_id}", collection_id)
    # Records first, then files, as those lock them who write a record. And a file that only such
    # records reference would never go.
    while deleted := kinto_storage.delete_all(
        resource_name="record", parent_id=collection_uri, limit=PAGE, with_deleted=False
    ):
        references.release_many(
            [Holder(bucket_id, collection_id, record["id"]) for record in deleted]
        )
    _terminate_uploads(request, f"{collection_uri}/*")


def _release_deleted(request: Any, references: References, holders: list[Holder]) -> list[Holder]:
    """Release the files of records of one collection that one request has deleted.

    Returns those that exist again, as in a batch they may.
    """
    kinto_storage, parent_id = request.registry.storage, holders[0].parent_id
    existing = []
    for first in range(0, len(holders), PAGE):
        some = {holder.record_id: holder for holder in holders[first : first + PAGE]}
        has_id = [Filter("id", [*some], COMPARISON.IN)]
        for record in pages(kinto_storage, "record", parent_id, has_id):
            existing.append(some.pop(record["id"]))
        references.release_many(some.values())
    return existing


def _terminate_uploads_to(request: Any, holders: list[Holder]) -> None:
    """Terminate the resumable uploads to records of one collection."""
    if len(holders) == 1:
        _terminate_uploads(request, holders[0].uri)
    else:
        records = {holder.uri for holder in holders}
        _terminate_uploads(request, f"{holders[0].parent_id}/*", records)


def _terminate_uploads(
    request: Any, parent_id: str, records: Container[str] | None = None
) -> None:
    """Terminate the resumable uploads to a record (its URI), or to several (a URI that ends in
    ``*``); of these, only those to ``records`` if given."""
    uploads = UploadStore(request.registry.storage)
    for upload in uploads.below(parent_id):
        if records is None or upload.record in records:
            uploads.terminate(upload, FileChanges.current(request.registry.attachment_files))


def _ids(event: Any) -> list[str]:
    """Return the ids of the objects that an event is about.

    In a plural delete, ``new`` and ``old`` are not always the same object; after a PATCH with
    ``Response-Behavior: light``, only ``old`` has an id.
    """
    ids: dict[str, None] = {}
    for change in event.impacted_objects:
        new = change.get("new") or {}
        ids[new["id"] if "id" in new else change["old"]["id"]] = None
    return list(ids)


def _references(request: Any, readers: Readers | None = None) -> References:
    registry = request.registry
    changes = FileChanges.current(request.registry.attachment_files)
    return References(registry.storage, registry.attachment_settings, changes, readers)


def _is_trusted(request: Any) -> bool:
    """Whether a publishing plugin has marked the request as writing attachment metadata."""
    while request is not None:
        if getattr(request, "_attachment_auto_save", False):
            return True
        request = getattr(request, "parent", None)
    return False


def _restore(request: Any, references: References, holder: Holder) -> None:
    """Write the attachment that the rows have back into the record."""
    kinto_storage = request.registry.storage
    record = references.record(holder)
    if record is None:
        return
    record.pop("last_modified")
    record.pop(FILE)
    attachment = references.attachment_held_by(holder)
    if attachment is not None:
        record[FILE] = attachment
    kinto_storage.update(**holder.key, obj=record)

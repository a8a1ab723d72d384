"""What happens to files when others change or delete records, collections and buckets.

Kinto merges the events of a batch and loses their order, so an event only names what to look at:
each record is read again, and the rows are made to match it.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import islice
from typing import Any

from kinto.core.errors import ERRORS, http_error
from kinto.core.events import ACTIONS, ResourceChanged
from kinto.core.storage import Filter
from kinto.core.utils import COMPARISON
from pyramid.httpexceptions import HTTPBadRequest, HTTPConflict

from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import FileGone, Forgery, References
from kinto_attachment.database.objects import is_transactional, lock
from kinto_attachment.database.scan import PAGE, pages
from kinto_attachment.http.multipart import FILE
from kinto_attachment.tus.store import UploadStore

_REFUSALS = {
    Forgery: (
        HTTPBadRequest,
        ERRORS.INVALID_POSTED_DATA,
        "Attachment metadata cannot be modified.",
    ),
    FileGone: (
        HTTPConflict,
        ERRORS.CONSTRAINT_VIOLATED,
        "The attached file was deleted meanwhile: read the record again.",
    ),
}


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


def on_records_changed(event: Any) -> None:
    """Records were created, changed or deleted, by whomever."""
    references = _references(event.request)
    trusted = _is_trusted(event.request)
    bucket_id, collection_id = event.payload["bucket_id"], event.payload["collection_id"]
    holders = [Holder(bucket_id, collection_id, record_id) for record_id in _ids(event)]
    if event.payload["action"] == ACTIONS.DELETE.value:
        _cancel_uploads_of(event.request, holders)
        if len(holders) > 1:
            holders = _release_deleted(event.request, references, holders)
    for holder in holders:
        try:
            references.sync(holder, trusted=trusted)
        except (Forgery, FileGone) as refusal:
            _restore(event.request, references, holder)
            answer, errno, message = _REFUSALS[type(refusal)]
            raise http_error(answer(), errno=errno, message=message) from None


def on_collections_deleted(event: Any) -> None:
    """Collections were deleted, and their records are about to."""
    for collection_id in _ids(event):
        _release_collection(event.request, event.payload["bucket_id"], collection_id)


def on_buckets_deleted(event: Any) -> None:
    """Buckets were deleted, and their collections and records are about to."""
    storage = event.request.registry.storage
    for bucket_id in _ids(event):
        bucket_uri = f"/buckets/{bucket_id}"
        for collection in pages(storage, "collection", bucket_uri):
            _release_collection(event.request, bucket_id, collection["id"])


def _release_collection(request: Any, bucket_id: str, collection_id: str) -> None:
    """Let go of every file in a collection, and remove its records.

    Kinto's own removal stops at ``storage_max_fetch_size``, and what it leaves comes back with a
    collection of the same name.
    """
    storage = request.registry.storage
    references = _references(request)
    collection_uri = f"/buckets/{bucket_id}/collections/{collection_id}"
    # An upload that is about to write in there finishes first, or finds the collection gone.
    lock(storage, "collection", f"/buckets/{bucket_id}", collection_id)
    has_file = [Filter(FILE, True, COMPARISON.HAS)]
    records = pages(storage, "record", collection_uri, has_file)
    holders = (Holder(bucket_id, collection_id, record["id"]) for record in records)
    while some := list(islice(holders, PAGE)):
        references.release_many(some)
    _cancel_uploads(request, f"{collection_uri}/*")
    while storage.delete_all(
        resource_name="record", parent_id=collection_uri, limit=PAGE, with_deleted=False
    ):
        pass


def _release_deleted(request: Any, references: References, holders: list[Holder]) -> list[Holder]:
    """Let go of the files of records that one request has deleted.

    Returns those that are there again: in a batch they may be.
    """
    storage, parent_id = request.registry.storage, holders[0].parent_id
    again = []
    for first in range(0, len(holders), PAGE):
        some = {holder.record_id: holder for holder in holders[first : first + PAGE]}
        is_one = [Filter("id", [*some], COMPARISON.IN)]
        for record in pages(storage, "record", parent_id, is_one):
            again.append(some.pop(record["id"]))
        references.release_many(some.values())
    return again


def _cancel_uploads_of(request: Any, holders: list[Holder]) -> None:
    """End what is being uploaded to records of one collection."""
    if len(holders) == 1:
        _cancel_uploads(request, holders[0].uri)
    else:
        records = {holder.uri for holder in holders}
        _cancel_uploads(request, f"{holders[0].parent_id}/*", records)


def _cancel_uploads(request: Any, parent_id: str, records: Container[str] | None = None) -> None:
    """End what is being uploaded to a record, or below a collection, if only to some ``records``
    there."""
    rows = UploadStore(request.registry.storage)
    for unfinished in rows.below(parent_id):
        if records is None or unfinished.record in records:
            rows.terminate(unfinished, FileChanges.current(request.attachment))


def _ids(event: Any) -> list[str]:
    """The ids of the objects that an event is about.

    In a plural delete ``new`` and ``old`` are not always of the same object, and after a PATCH
    with ``Response-Behavior: light`` the id stands in ``old`` only.
    """
    ids: dict[str, None] = {}
    for change in event.impacted_objects:
        new = change.get("new") or {}
        ids[new["id"] if "id" in new else change["old"]["id"]] = None
    return list(ids)


def _references(request: Any) -> References:
    registry = request.registry
    changes = FileChanges.current(request.attachment)
    return References(registry.storage, registry.attachment_settings, changes)


def _is_trusted(request: Any) -> bool:
    """Whether a publishing plugin says that it writes attachment metadata itself."""
    while request is not None:
        if getattr(request, "_attachment_auto_save", False):
            return True
        request = getattr(request, "parent", None)
    return False


def _restore(request: Any, references: References, holder: Holder) -> None:
    """Where nothing can roll back, put the record's own file back into it."""
    storage = request.registry.storage
    record = references.record(holder)
    if is_transactional(storage) or record is None:
        return
    record.pop("last_modified")
    record.pop(FILE)
    attachment = references.attachment_held_by(holder)
    if attachment is not None:
        record[FILE] = attachment
    storage.update(
        resource_name="record",
        parent_id=holder.parent_id,
        object_id=holder.record_id,
        obj=record,
    )

"""The use cases: attach a file to a record, and detach it.

Both lock the record, ask again whether the user may write it, and write through Kinto's own
resource; nothing is written before the last possible refusal. Which files stay or go follows from
the record, when ``ResourceChanged`` is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.authorization import AttachmentContext, authorize_again
from kinto_attachment.attachments.file_changes import FileChanges, delete_files
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.inspection import Metadata
from kinto_attachment.attachments.last_look import last_look
from kinto_attachment.attachments.quotas import Room
from kinto_attachment.attachments.references import References
from kinto_attachment.database.commit import OutcomeUnknown, commit
from kinto_attachment.database.objects import is_transactional
from kinto_attachment.database.transactions import OwnTransaction
from kinto_attachment.errors import UnknownRecord
from kinto_attachment.http.multipart import FILE
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Body = dict[str, dict[str, Any]]
"""``data`` and ``permissions`` of a record, each of them optional."""


class RecordAttachment:
    """The attachment of the record that a request names, in the current transaction."""

    def __init__(self, request: Any, settings: Settings, files: FileStorage) -> None:
        self._request = request
        self._settings = settings
        self._changes = FileChanges.current(files)
        self._kinto_storage = request.registry.storage
        self._references = References(self._kinto_storage, settings, self._changes)
        self._holder = Holder.of(request.matchdict)

    def attach(
        self, name: str, metadata: Metadata, body: Body, preconditions: Preconditions
    ) -> dict[str, Any]:
        """Attach the stored file ``name`` to the record, which is created if it does not exist.

        Returns the ``attachment`` attribute. Raises what a PUT or PATCH of the record is refused
        with.
        """
        context = self.authorize()
        attachment = metadata.attachment(self._settings.location(name))
        body = {**body, "data": {**body.get("data", {}), FILE: attachment}}
        # Before the record shows the file: without transactions, others see it at once.
        self._references.add(name, metadata, self._holder)
        method = "PUT" if context.current_object is None else "PATCH"
        try:
            records.write(self._request, context, method, body, preconditions)
        except BaseException:
            if not is_transactional(self._kinto_storage) and not self.shows(name):
                self._references.forget(name)
            raise
        self._request.registry.attachment_site.write_after_commit()
        return attachment

    def room(self, size: int) -> Room:
        """Return how many bytes a new file may have, of which ``size`` are known. See
        ``Quotas.room()``."""
        return self._references.room(self._holder, size)

    def is_used(self, name: str) -> bool:
        """Whether a file has, or had, that name."""
        return self._references.is_used(name)

    def authorize(self) -> AttachmentContext:
        """Create bucket and collection where the default bucket should, lock the record, and ask
        again whether the user may write it.

        Raises ``UnknownCollection``, ``Forbidden``, and Kinto's own 404.
        """
        create_parents = self._request.context.create_parents
        if create_parents is not None:
            create_parents()
        return authorize_again(self._request)

    def detach(self, preconditions: Preconditions) -> Any:
        """Take the attachment off the record, which stays; return the one that it had.

        Raises ``UnknownRecord``, ``PreconditionFailed``, and ``InvalidParameter`` if the schema
        requires an attachment.
        """
        context = authorize_again(self._request)
        record = context.current_object
        if record is None:
            raise UnknownRecord(context.record_id)
        preconditions.check(record)
        attachment = record.get(FILE)
        if attachment is None:
            return None
        data = records.without_file(self._request, context, record)
        if FILE in data:
            records.write(self._request, context, "PATCH", {"data": {FILE: None}})
        else:
            records.write(self._request, context, "PUT", {"data": data})
        return attachment

    def has(self, attachment: Any) -> bool:
        """Whether the record has this ``attachment``."""
        record = self._references.record(self._holder)
        return record is not None and record.get(FILE) == attachment

    def shows(self, name: str) -> bool:
        """Whether the record references the file."""
        return self._references.referenced_by(self._holder) == name


def find_room(
    request: Any,
    settings: Settings,
    files: FileStorage,
    own_transaction: OwnTransaction,
    size: int,
) -> Room | None:
    """Return how many bytes a file for the record may have now; ``None`` without a quota.

    ``size`` is what is known of it in advance. Whether it fits is decided when it is attached.
    Raises ``QuotaExceeded`` if it does not fit now.
    """
    if not settings.has_quota(request.matchdict):
        return None
    with own_transaction():
        room = RecordAttachment(request, settings, files).room(size)
    room.check(size)
    return room


def attach_file(
    request: Any,
    settings: Settings,
    files: FileStorage,
    name: str,
    metadata: Metadata,
    body: Body,
    preconditions: Preconditions,
) -> dict[str, Any]:
    """Attach the stored file ``name``, and commit; or delete the file.

    Returns and raises what ``RecordAttachment.attach()`` does, and what ``commit()`` raises.
    """

    def record() -> RecordAttachment:
        return RecordAttachment(request, settings, files)

    try:
        return commit_record(
            request,
            # Kinto changes the body that it is given.
            lambda: record().attach(name, metadata, deepcopy(body), preconditions),
            # The record may have another file by now, or be gone.
            has_committed=lambda: record().is_used(name),
        )
    except OutcomeUnknown:
        logger.error("The database may have committed or not: %s is left for gc.", name)
        raise
    except BaseException:
        if is_transactional(request.registry.storage) or not record().shows(name):
            delete_files(files, [name])
        raise


def detach_file(
    request: Any, settings: Settings, files: FileStorage, preconditions: Preconditions
) -> None:
    """Take the attachment off the record, and commit. Raises as ``attach_file()`` does."""
    detached: Any = None

    def write() -> None:
        nonlocal detached
        detached = RecordAttachment(request, settings, files).detach(preconditions)

    commit_record(
        request,
        write,
        # The record may have another attachment by now.
        has_committed=lambda: not RecordAttachment(request, settings, files).has(detached),
    )


def commit_record(
    request: Any, write: Callable[[], _Result], *, has_committed: Callable[[], bool]
) -> _Result:
    """Commit what ``write()`` does to the record of the request. See ``commit()``."""
    bucket_uri = f"/buckets/{request.matchdict['bucket_id']}"
    return commit(
        request,
        write,
        bucket_uri=bucket_uri,
        before_commit=last_look,
        has_committed=has_committed,
    )

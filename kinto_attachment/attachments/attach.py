"""The use cases: attach a file to a record, and detach it.

Both read the record under a lock, ask once more whether they may, and write through Kinto's own
resource; nothing is written before the last possible refusal. Which files go or stay follows from
the record, when Kinto tells that it has changed.
"""

from __future__ import annotations

from typing import Any

from kinto.core.errors import ERRORS, http_error, raise_invalid
from pyramid.httpexceptions import HTTPNotFound

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.authorization import AttachmentContext, ask_again
from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import References
from kinto_attachment.attachments.upload import Metadata
from kinto_attachment.database.objects import is_transactional
from kinto_attachment.http.multipart import FILE
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage


class Attachments:
    """The use cases, for one request."""

    def __init__(self, request: Any, settings: Settings, files: FileStorage) -> None:
        self._request = request
        self._settings = settings
        self._changes = FileChanges.current(files)
        self._storage = request.registry.storage
        self.references = References(self._storage, settings, self._changes)

    def attach(
        self, name: str, metadata: Metadata, body: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """Attach a finished file to the record, which is created if it does not exist.

        ``name`` is the file's relative name; ``body`` may have ``data`` and ``permissions`` for
        the record. Returns the ``attachment`` attribute. Raises what Kinto answers when it
        refuses; the transaction then aborts, and the file is discarded.
        """
        self._changes.discard_if_aborted(name)
        return self.attach_kept(name, metadata, body)

    def attach_kept(
        self, name: str, metadata: Metadata, body: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """The same with a file that is kept if Kinto refuses, or the transaction aborts."""
        context = self.prepare()
        attachment = metadata.attachment(self._settings.location(name))
        body = {**body, "data": {**body.get("data", {}), FILE: attachment}}
        # Before the record shows the file: where nothing is a transaction, others see it at once.
        self.references.add(name, metadata, self._holder())
        try:
            write = records.put if context.current_object is None else records.patch
            write(self._request, context, body)
        finally:
            if not is_transactional(self._storage):
                self._settle(name, attachment)
        return attachment

    def prepare(self) -> AttachmentContext:
        """Make sure, to the end of the transaction, that there is a collection for the record,
        and that the user may write it. Raises Kinto's 404, 401 and 403."""
        create_parents = self._request.context.create_parents
        if create_parents is not None:
            create_parents()
        return ask_again(self._request)

    def detach(self, preconditions: Preconditions) -> None:
        """Take the attachment off the record, which stays.

        Raises Kinto's 404 if there is no such record, 412 if it is another one than the client
        believes, and 400 if its schema requires an attachment.
        """
        context = ask_again(self._request)
        record = context.current_object
        if record is None:
            details = {"id": context.record_id, "resource_name": "record"}
            raise http_error(HTTPNotFound(), errno=ERRORS.INVALID_RESOURCE_ID, details=details)
        preconditions.check(record)
        if record.get(FILE) is None:
            return
        without = {key: value for key, value in record.items() if key != FILE}
        if records.accepts(self._request, context, {**without, FILE: None}):
            records.patch(self._request, context, {"data": {FILE: None}})
        elif records.accepts(self._request, context, without):
            records.put(self._request, context, {"data": without})
        else:
            raise_invalid(
                self._request,
                name=FILE,
                description="The schema requires an attachment: replace it instead.",
            )

    def _settle(self, name: str, attachment: dict[str, Any]) -> None:
        """Where nothing can roll back: a file that the record shows stays, whatever comes now."""
        record = self.references.record(self._holder())
        if record is not None and record.get(FILE) == attachment:
            self._changes.keep_new()
        else:
            self.references.forget(name)

    def _holder(self) -> Holder:
        return Holder.of(self._request.matchdict)

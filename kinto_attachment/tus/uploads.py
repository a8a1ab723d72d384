"""The use cases of uploads over several requests: begin one, go on with it, end it.

No request holds a database connection while its body comes in. What has arrived is saved every few
seconds, and when the client vanishes. The end is that of a plain upload: see ``attachments``.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from kinto.core.utils import msec_time

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.attach import Attachments
from kinto_attachment.attachments.file_changes import FileChanges
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.upload import Destination, Metadata, TooLarge
from kinto_attachment.database.objects import is_transactional
from kinto_attachment.database.transactions import aside, outermost, release
from kinto_attachment.http.body import ConnectionLost
from kinto_attachment.http.multipart import FILE, FilePart
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage, best_effort
from kinto_attachment.tus.lease import Lease, UploadUnknown, check_lease
from kinto_attachment.tus.receive import Body, TooLong, receive
from kinto_attachment.tus.store import Unfinished, UnfinishedUploads
from kinto_attachment.tus.termination import Endings, FileMismatch, UploadGone


class OffsetMismatch(Exception):
    """The upload goes on at ``offset``, and not where the client thinks."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"The upload goes on at {offset}.")
        self.offset = offset


class LengthRefused(Exception):
    """The length is not the one told before, or less than what is there already."""


class ResumableUploads:
    """The use cases, for one request on one record."""

    def __init__(self, request: Any, settings: Settings, files: FileStorage) -> None:
        self._request = request
        self._settings = settings
        self._files = files
        self._storage = request.registry.storage
        self._rows = UnfinishedUploads(self._storage)
        self._holder = Holder.of(request.matchdict)
        references = Attachments(request, settings, files).references
        self._endings = Endings(self._rows, files, references)
        self._limits = settings.for_collection(self._holder.bucket_id, self._holder.collection_id)

    def create(
        self,
        part: FilePart,
        length: int | None,
        content: Body | None,
        *,
        metadata: str,
        body: dict[str, dict[str, Any]],
        sha256: str | None,
        preconditions: dict[str, str],
    ) -> Unfinished:
        """Begin an upload of ``length`` bytes, of which ``content`` has the first, maybe all.

        The others are what ``Unfinished`` keeps. Returns the upload, with ``done`` if its file is
        attached already. Raises what ``Destination``, ``Body.chunks()`` and Kinto raise;
        ``FileMismatch``; ``StorageUnavailable``. Nothing is left then.
        """
        self._check_size(length)
        destination = self._destination(length)
        mimetype = destination.mimetype(part)
        # What is not known yet of the file is stood in for by something of its kind.
        size = 1 if length is None else length
        self._check_record(Metadata(part.filename, sha256 or "0" * 64, mimetype, size), body)
        release(self._request)
        upload = Unfinished(
            id=str(uuid4()),
            record=self._holder.uri,
            user_id=self._request.prefixed_userid,
            filename=part.filename,
            mimetype=mimetype,
            metadata=metadata,
            length=length,
            state=destination.create(part, mimetype),
            expires=self._expiry(),
            body=body,
            sha256=sha256,
            preconditions=preconditions,
        )
        known = None
        try:
            if content is not None or length == 0:
                upload, known = self._received_at_once(upload, content or Body(BytesIO(), 0))
        except BaseException:
            self._files.cancel(upload.state)
            raise
        changes = FileChanges.current(self._files)
        changes.cancel_if_aborted(upload.state)
        attachments = Attachments(self._request, self._settings, self._files)
        if known is not None and upload.name is not None:
            attachments.attach(upload.name, known, body)
            upload = replace(upload, done=True)
        else:
            attachments.prepare()
        for other in self._rows.expired(self._holder.uri):
            self._rows.cancel(other, changes)
        self._rows.save(upload)
        if not is_transactional(self._storage):
            changes.keep_new()
        return upload

    def append(
        self, upload_id: str, offset: int, content: Body, length: int | None = None
    ) -> Unfinished:
        """Go on with an upload at ``offset`` with ``content``, and attach the file if it is whole.

        ``length`` is that of the upload, if the client tells it now. Returns the upload.
        Raises ``UploadUnknown``, ``UploadGone``, ``UploadBusy``, ``OffsetMismatch``,
        ``LengthRefused``, and what ``create()`` raises. What had arrived before stays, unless no
        other try can end otherwise.
        """
        with aside(self._request) as short:
            check = partial(self._checked, offset=offset, content=content, length=length)
            lease = Lease(self._rows, short, self._holder.uri, upload_id, check)
            with self._endings.of(short, lease):
                if lease.upload.length is not None:
                    length = lease.upload.length
                if not self._receive(lease, offset, content, length):
                    return lease.upload
                known = self._verified(lease.upload, length, lease)
        # From now on Kinto may refuse, also after this view.
        outermost(self._request).add_response_callback(partial(self._endings.settle, short, lease))
        return self._attached(lease.upload, known)

    def cancel(self, upload_id: str) -> None:
        """End an upload; the file of one that is done stays. Raises ``UploadUnknown``.

        A request that still writes to it finds out.
        """
        with aside(self._request) as short:
            with short(), self._rows.exclusively():
                upload = self._rows.locked(self._holder.uri, upload_id)
                if upload is None:
                    raise UploadUnknown()
                self._rows.remove(upload)
            if not upload.done:
                self._endings.discard(short, upload)

    def _checked(
        self, upload: Unfinished, offset: int, content: Body, length: int | None
    ) -> Unfinished:
        """The upload as it is to go on, if the request fits to it."""
        if upload.is_expired:
            raise UploadGone()
        if upload.done or offset != upload.offset:
            raise OffsetMismatch(upload.offset)
        if length is not None:
            if upload.length not in (None, length):
                raise LengthRefused(f"Upload-Length is {upload.length} already.")
            if length < upload.stored:
                raise LengthRefused(f"There are {upload.stored} bytes already.")
            self._check_size(length)
            # An upload of no bytes would look like a success before the record is written.
            upload = replace(upload, length=length or None)
        room = self._room(upload.length if length is None else length, offset)
        if room is not None and content.length is not None and content.length > room:
            raise TooLong()
        return upload

    def _room(self, length: int | None, offset: int) -> int | None:
        """How many bytes may follow; ``None``: any number."""
        if length is None:
            length = self._limits.max_size_bytes or None
        return None if length is None else length - offset

    def _receive(self, lease: Lease, offset: int, content: Body, length: int | None) -> bool:
        """Take the body; whether the file is whole, and then finished."""
        room = self._room(length, offset)
        if lease.upload.name is not None:
            for _ in content.chunks(room):
                # All of the file is there: only the record has not been written.
                pass
            return True
        try:
            with closing(self._files.resume(lease.upload.state)) as file:
                try:
                    receive(
                        content,
                        file,
                        room=room,
                        skip=file.offset - offset,
                        lease=lease,
                        expiry=self._expiry,
                    )
                except ConnectionLost:
                    if content.checksum is None:
                        lease.save(state=file.checkpoint(), expires=self._expiry())
                    raise
                state = file.checkpoint()
                if file.offset != length:
                    lease.release(state=state, expires=self._expiry())
                    return False
                lease.save(state=state, expires=self._expiry())
                name = file.finish()
                lease.save(name=name)
        except FileNotFoundError as error:
            raise UploadGone() from error
        return True

    def _received_at_once(
        self, upload: Unfinished, content: Body
    ) -> tuple[Unfinished, Metadata | None]:
        """The upload with the body of the request that begins it; and, if the file is whole and
        finished, what is known of it."""
        room = self._room(upload.length, 0)
        with closing(self._files.resume(upload.state)) as file:
            if room is not None and content.length is not None and content.length > room:
                raise TooLong()
            receive(content, file, room=room)
            upload = replace(upload, state=file.checkpoint())
            if file.offset != upload.length:
                return upload, None
            upload = replace(upload, name=file.finish())
        try:
            return upload, self._verified(upload, upload.length)
        except BaseException:
            best_effort("delete the file of an upload", self._files.delete, upload.name)
            raise

    def _verified(
        self, upload: Unfinished, length: int | None, lease: Lease | None = None
    ) -> Metadata:
        """Read the finished file back: what several requests have sent was never hashed in one go.

        Raises ``FileMismatch``, ``UploadGone``, ``StorageUnavailable``.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with closing(self._files.read(upload.name or "")) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    if lease is not None and lease.is_due:
                        lease.save()
        except FileNotFoundError as error:
            raise UploadGone() from error
        if size != length or upload.sha256 not in (None, digest.hexdigest()):
            raise FileMismatch("The file is not what sha256 says.")
        return Metadata(upload.filename, digest.hexdigest(), upload.mimetype, size)

    def _attached(self, upload: Unfinished, known: Metadata) -> Unfinished:
        """Write the record. The file stays if that fails: it can be tried again."""
        for name in ("If-Match", "If-None-Match"):
            # What a client sends with each request was about the record as it began.
            self._request.headers.pop(name, None)
        self._request.headers.update(upload.preconditions)
        self._check_size(known.size)
        self._destination(known.size).mimetype(FilePart(known.filename, known.mimetype))
        if not is_transactional(self._storage):
            check_lease(self._rows, upload)
        attachments = Attachments(self._request, self._settings, self._files)
        attachments.attach_kept(upload.name or "", known, upload.body)
        with self._rows.exclusively():
            # Only now: who deletes the record locks it first, and its uploads then.
            check_lease(self._rows, upload)
            upload = replace(upload, length=known.size, done=True, owner=None, leased_until=0)
            self._rows.save(upload)
        return upload

    def _check_size(self, length: int | None) -> None:
        limit = self._limits.max_size_bytes
        if limit and length is not None and length > limit:
            raise TooLarge(limit)

    def _check_record(self, expected: Metadata, body: dict[str, dict[str, Any]]) -> None:
        """Raise what Kinto answers when it refuses the record, whatever the file will be like."""
        name = f"{uuid4()}{PurePosixPath(expected.filename).suffix}"
        attachment = expected.attachment(self._settings.location(name))
        data = {**body.get("data", {}), FILE: attachment}
        records.check(self._request, self._request.context, {**body, "data": data})

    def _destination(self, length: int | None) -> Destination:
        return Destination(self._files, self._limits, self._request.matchdict, length)

    def _expiry(self) -> int:
        lasts = self._settings.uploads_expire.total_seconds()
        return int(msec_time() + lasts * 1000)

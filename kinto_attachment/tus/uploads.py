"""The use cases of resumable uploads: create one, append to it, terminate it.

No request holds a database connection while its body comes in. What has arrived is saved every
few seconds, and when the client vanishes. The last byte is acknowledged only once the record is
written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from kinto.core.utils import msec_time

from kinto_attachment.attachments import record as records
from kinto_attachment.attachments.attach import Body as RecordBody
from kinto_attachment.attachments.attach import RecordAttachment, commit_record, find_room
from kinto_attachment.attachments.file_changes import FileChanges, delete_files
from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.inspection import Inspection, Metadata
from kinto_attachment.attachments.quotas import Room
from kinto_attachment.attachments.references import References
from kinto_attachment.attachments.upload import IncomingFile, UploadPolicy
from kinto_attachment.database.commit import OutcomeUnknown
from kinto_attachment.database.objects import is_transactional
from kinto_attachment.database.transactions import (
    OwnTransaction,
    suspended,
)
from kinto_attachment.errors import (
    ExpiredUpload,
    FileMismatch,
    InvalidHeader,
    OffsetMismatch,
    UnknownUpload,
)
from kinto_attachment.http.multipart import FILE, FilePart
from kinto_attachment.http.preconditions import Preconditions
from kinto_attachment.settings import Settings
from kinto_attachment.storage import FileStorage
from kinto_attachment.tus.lease import Lease, check_owner, check_unlocked
from kinto_attachment.tus.receive import Body, receive, receive_leased
from kinto_attachment.tus.received import Received, ReceivedUploads
from kinto_attachment.tus.store import ResumableUpload, UploadStore
from kinto_attachment.tus.termination import Termination


@dataclass(frozen=True)
class Creation:
    """What a client announces when it creates an upload."""

    part: FilePart
    length: int | None
    """In bytes; ``None`` if it is deferred."""
    metadata: str
    """``Upload-Metadata`` as it was sent."""
    body: RecordBody
    sha256: str | None
    """The digest of the whole file, in lower-case hex, if it is announced."""
    preconditions: Preconditions


class ResumableUploads:
    """The use cases, for one request on one record."""

    def __init__(
        self, request: Any, settings: Settings, files: FileStorage, received: ReceivedUploads
    ) -> None:
        self._request = request
        self._received = received
        self._settings = settings
        self._files = files
        self._kinto_storage = request.registry.storage
        self._store = UploadStore(self._kinto_storage)
        self._termination = Termination(self._store, files, self._references)
        self._record_uri = Holder.of(request.matchdict).uri

    @cached_property
    def _policy(self) -> UploadPolicy:
        ids = self._request.matchdict
        limits = self._settings.for_collection(ids["bucket_id"], ids["collection_id"])
        return UploadPolicy(limits, ids, self._files.max_size)

    def create(self, creation: Creation, content: Body | None) -> ResumableUpload:
        """Create an upload; ``content`` has its first bytes, or all of them.

        Returns the upload, ``done`` if its file is attached already. Raises what
        ``UploadPolicy``, ``Body.chunks()`` and the record are refused with, ``FileMismatch``,
        ``StorageUnavailable``; nothing is left then.
        """
        self._policy.check_size(creation.length)
        file = self._policy.accept(creation.part, creation.length)
        self._validate_record(file, creation)
        with suspended(self._request) as own_transaction:
            quota = self._quota(own_transaction, creation.length, content)
        upload = ResumableUpload(
            id=str(uuid4()),
            record=self._record_uri,
            user_id=self._request.prefixed_userid,
            filename=file.filename,
            mimetype=file.mimetype,
            metadata=creation.metadata,
            length=creation.length,
            state=self._files.create(file.new),
            expires=self._expiry(),
            body=creation.body,
            sha256=creation.sha256,
            preconditions=creation.preconditions.headers,
        )
        metadata = None
        received = self._received.take(upload)
        try:
            if creation.length == 0:
                content = content or Body(BytesIO(), 0)
            if content is not None:
                upload = self._receive_first(upload, replace(content, quota=quota), received)
            if upload.name is not None:
                seen = received.whole(upload.stored) or file.inspection()
                metadata = self._inspect(upload, seen)
            created = commit_record(
                self._request,
                partial(self._write_created, upload, metadata, creation),
                has_committed=lambda: self._is_written(upload),
            )
            self._received.keep(created, received)
            return created
        except OutcomeUnknown:
            raise
        except BaseException:
            self._discard_created(upload)
            raise

    def append(
        self, upload_id: str, offset: int, content: Body, length: int | None = None
    ) -> ResumableUpload:
        """Append ``content`` at ``offset``, and attach the file once it is whole.

        ``length`` is that of the upload, if the client declares it now. Returns the upload.
        Raises ``UnknownUpload``, ``ExpiredUpload``, ``UploadLocked``, ``OffsetMismatch``,
        ``InvalidHeader``, and what ``create()`` raises. What had arrived before stays, unless no
        other try can succeed.
        """
        with suspended(self._request) as own_transaction:
            lease, received = self._acquire(own_transaction, upload_id, offset, content, length)
            with (
                self._keeping(lease, received),
                self._termination.while_receiving(own_transaction, lease),
            ):
                if lease.upload.length is not None:
                    length = lease.upload.length
                quota = self._quota(own_transaction, length, content, offset)
                content = replace(content, quota=quota)
                if lease.upload.name is not None:
                    # Only the record is missing: the client sends the last byte again.
                    for _ in content.chunks(self._room(length, offset)):
                        pass
                elif not self._receive(own_transaction, lease, offset, content, length, received):
                    return lease.upload
                file = self._accepted(lease.upload)
                seen = received.whole(lease.upload.stored) or self._read_back(file, lease)
                metadata = self._inspect(lease.upload, seen)
        try:
            return commit_record(
                self._request,
                partial(self._attach, lease.upload, metadata),
                has_committed=lambda: self._record().is_used(lease.upload.name or ""),
            )
        except BaseException as error:
            with suspended(self._request) as own_transaction, self._keeping(lease, received):
                self._termination.after_refusal(own_transaction, lease, error)
            raise

    def terminate(self, upload_id: str) -> None:
        """Terminate an upload; the file of one that is done stays. Raises ``UnknownUpload``.

        A request that still writes to it stops.
        """
        self._received.forget(upload_id)
        with suspended(self._request) as own_transaction:
            with own_transaction(), self._store.exclusive():
                upload = self._locked(upload_id)
                self._store.remove(upload)
            if not upload.done:
                self._termination.discard(own_transaction, upload)

    def _locked(self, upload_id: str) -> ResumableUpload:
        upload = self._store.locked(self._record_uri, upload_id)
        if upload is None:
            raise UnknownUpload()
        return upload

    def _acquire(
        self,
        own_transaction: OwnTransaction,
        upload_id: str,
        offset: int,
        content: Body,
        length: int | None,
    ) -> tuple[Lease, Received]:
        """Take the lease of the upload, if the request may append to it, and what is known of its
        content."""
        with own_transaction(), self._store.exclusive():
            upload = self._locked(upload_id)
            check_unlocked(upload)
            if upload.is_expired:
                raise ExpiredUpload()
            if upload.done or offset != upload.offset:
                raise OffsetMismatch(offset=upload.offset)
            if length is not None:
                upload = self._with_length(upload, length)
            content.check_length(self._room(upload.length if length is None else length, offset))
            received = self._received.take(upload)
            lease = Lease(self._store, own_transaction, upload)
            lease.acquire()
        return lease, received

    @contextmanager
    def _keeping(self, lease: Lease, received: Received) -> Iterator[None]:
        """If the lease is released, keep what is known of the content for the next request."""
        try:
            yield
        finally:
            if lease.released is not None:
                self._received.keep(lease.released, received)

    def _with_length(self, upload: ResumableUpload, length: int) -> ResumableUpload:
        """Return the upload with the deferred length. Raises ``InvalidHeader``."""
        if upload.length not in (None, length):
            raise InvalidHeader(f"Upload-Length is {upload.length} already.")
        if length < upload.stored:
            raise InvalidHeader(f"There are {upload.stored} bytes already.")
        self._policy.check_size(length)
        # An upload of no bytes would look done before the record is written.
        return replace(upload, length=length or None)

    def _quota(
        self,
        own_transaction: OwnTransaction,
        length: int | None,
        content: Body | None,
        offset: int = 0,
    ) -> Room | None:
        """Return how many bytes may follow ``offset`` now; ``None`` without a quota.

        Raises ``QuotaExceeded`` if those that are announced do not fit.
        """
        if length is None:
            length = offset + ((content and content.length) or 0)
        room = find_room(self._request, self._settings, self._files, own_transaction, length)
        return room and room.after(offset)

    def _room(self, length: int | None, offset: int) -> int | None:
        """How many bytes may follow ``offset``; ``None`` without a limit."""
        limit = self._policy.max_size if length is None else length
        return None if limit is None else limit - offset

    def _receive_first(
        self, upload: ResumableUpload, content: Body, received: Received
    ) -> ResumableUpload:
        """Receive the body of the request that creates the upload; finish the file if it is
        whole."""
        room = self._room(upload.length, 0)
        content.check_length(room)
        with closing(self._files.resume(upload.state)) as file:
            receive(content, file, room, received)
            upload = replace(upload, state=file.checkpoint())
            received.save()
            if file.offset == upload.length:
                upload = replace(upload, name=file.finish(self._references().is_used))
        return upload

    def _receive(
        self,
        own_transaction: OwnTransaction,
        lease: Lease,
        offset: int,
        content: Body,
        length: int | None,
        received: Received,
    ) -> bool:
        """Receive the body. Return whether the file is whole, and finished then."""
        # Whoever has lost the lease meanwhile must not cut off what others have written.
        lease.renew()
        try:
            with closing(self._files.resume(lease.upload.state)) as file:
                receive_leased(
                    content,
                    file,
                    lease,
                    self._room(length, offset),
                    received,
                    skip=file.offset - offset,
                    expiry=self._expiry,
                )
                state = file.checkpoint()
                received.save()
                if file.offset != length:
                    lease.release(state=state, expires=self._expiry())
                    return False
                lease.save(state=state, expires=self._expiry())
                name = file.finish(partial(self._is_used, own_transaction))
        except FileNotFoundError as error:
            raise ExpiredUpload() from error
        try:
            lease.save(name=name)
        except UnknownUpload:
            # Terminated meanwhile. Nobody else knows the name, and the file would stay.
            lease.upload = replace(lease.upload, name=name)
            raise
        return True

    def _is_used(self, own_transaction: OwnTransaction, name: str) -> bool:
        with own_transaction():
            return self._references().is_used(name)

    def _inspect(self, upload: ResumableUpload, inspection: Inspection) -> Metadata:
        """Return the metadata of the finished file, whose content ``inspection`` has seen.

        Raises ``FileMismatch``, ``FileTooLarge``, ``ExpiredUpload``, ``StorageUnavailable``.
        """
        self._policy.check_size(inspection.size)
        try:
            size = self._files.stat(upload.name or "").size
        except FileNotFoundError as error:
            raise ExpiredUpload() from error
        metadata = inspection.metadata()
        is_whole = size == metadata.size == upload.stored
        if not is_whole or upload.sha256 not in (None, metadata.hash):
            raise FileMismatch()
        return metadata

    def _read_back(self, file: IncomingFile, lease: Lease) -> Inspection:
        """Look at the finished file, whose bytes this process has not seen all. Raises as
        ``_inspect()`` does."""
        inspection = file.inspection()
        try:
            with closing(self._files.read(lease.upload.name or "")) as chunks:
                for chunk in chunks:
                    inspection.update(chunk)
                    lease.renew()
        except FileNotFoundError as error:
            raise ExpiredUpload() from error
        return inspection

    def _accepted(self, upload: ResumableUpload) -> IncomingFile:
        """The file of the upload, if the settings still accept it."""
        file = self._policy.accept(FilePart(upload.filename, upload.mimetype), upload.stored)
        # The storage serves it as what was announced.
        return replace(file, mimetype=upload.mimetype)

    def _write_created(
        self, upload: ResumableUpload, metadata: Metadata | None, creation: Creation
    ) -> ResumableUpload:
        """Save the upload, or attach its file if it is whole."""
        if upload.name is not None and metadata is not None:
            body = deepcopy(creation.body)
            self._record().attach(upload.name, metadata, body, creation.preconditions)
            upload = replace(upload, done=True)
        else:
            self._record().authorize()
        changes = FileChanges.current(self._files)
        for expired in self._store.expired(self._record_uri):
            self._store.terminate(expired, changes)
        return self._store.save(upload)

    def _is_written(self, upload: ResumableUpload) -> bool:
        """Whether ``_write_created()`` has committed, whatever became of the record since."""
        if upload.name is not None:
            return self._record().is_used(upload.name)
        return self._store.get(upload.record, upload.id) is not None

    def _discard_created(self, upload: ResumableUpload) -> None:
        """Remove what is stored of an upload that was not created, but no file that the record
        shows, where nothing rolls back."""
        self._files.cancel(upload.state)
        is_shown = upload.name is not None and (
            not is_transactional(self._kinto_storage) and self._record().shows(upload.name)
        )
        if upload.name is not None and not is_shown:
            delete_files(self._files, [upload.name])

    def _attach(self, upload: ResumableUpload, metadata: Metadata) -> ResumableUpload:
        """Write the record. The file stays if that fails: the end can be tried again."""
        if not is_transactional(self._kinto_storage):
            check_owner(self._store, upload)
        preconditions = Preconditions(upload.preconditions)
        self._record().attach(upload.name or "", metadata, deepcopy(upload.body), preconditions)
        with self._store.exclusive():
            # The record's row is locked first, as by a DELETE of the record.
            check_owner(self._store, upload)
            upload = replace(upload, length=metadata.size, done=True, owner=None, leased_until=0)
            self._store.save(upload)
        return upload

    def _validate_record(self, file: IncomingFile, creation: Creation) -> None:
        """Validate the record early, with placeholders for what is not yet known."""
        size = 1 if creation.length is None else creation.length
        expected = Metadata(file.filename, creation.sha256 or "0" * 64, file.mimetype, size)
        name = f"{uuid4()}{PurePosixPath(file.filename).suffix}"
        attachment = expected.attachment(self._settings.location(name))
        data = {**creation.body.get("data", {}), FILE: attachment}
        records.validate(self._request, self._request.context, {**creation.body, "data": data})

    def _record(self) -> RecordAttachment:
        return RecordAttachment(self._request, self._settings, self._files)

    def _references(self) -> References:
        changes = FileChanges.current(self._files)
        return References(self._kinto_storage, self._settings, changes)

    def _expiry(self) -> int:
        return int(msec_time() + self._settings.uploads_expire.total_seconds() * 1000)

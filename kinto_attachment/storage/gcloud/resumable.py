"""A file that several requests send to Google Cloud Storage, in *pieces*.

Each checkpoint stores what has arrived since the last one as a piece, a hidden object;
``finish()`` has Google compose the file of all pieces. An upload session of Google's does not
outlive the request: it cannot go back to an older state, and who knows its URI may write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from uuid import uuid4

from kinto_attachment.storage import names
from kinto_attachment.storage.cleanup import best_effort
from kinto_attachment.storage.gcloud.bucket import Bucket
from kinto_attachment.storage.gcloud.content import Buffer, encoded
from kinto_attachment.storage.gcloud.crc32c import concatenated
from kinto_attachment.storage.gcloud.hidden_objects import MARKER, HiddenObjects
from kinto_attachment.storage.gcloud.new_object import NewObject
from kinto_attachment.storage.gcloud.pieces import NewPiece, Pieces
from kinto_attachment.storage.gcloud.session import ApiError, GoogleError, Object, size_of
from kinto_attachment.storage.resumable import ResumableFile, State
from kinto_attachment.storage.staged import IsUsed, NewFile

_STORAGE = "gcloud"


def create(bucket: Bucket, new: NewFile, name: str, attributes: Mapping[str, str]) -> State:
    """Return the first state of a file that should be called ``name``; ``attributes`` are those
    of ``attributes_of()``."""
    if new.exact_name:
        raise TypeError("only a staged file has an exact name")
    state: State = {
        "storage": _STORAGE,
        "id": str(uuid4()),
        "name": name,
        "keep_name": not new.is_random,
        "attributes": dict(attributes),
        "offset": 0,
        "crc32c": 0,
        # The numbers of hidden objects.
        "pieces": [],
        "superseded": [],
    }
    hidden = HiddenObjects(bucket, state)
    with bucket.errors(f"write to {name!r}"), contextlib.ExitStack() as undo:
        undo.callback(best_effort, "discard an upload", hidden.remove)
        hidden.mark_unfinished()
        undo.pop_all()
    return state


def cancel(bucket: Bucket, state: State) -> None:
    """Remove an unfinished file. Raises ``GoogleError``."""
    if state["storage"] == _STORAGE:
        HiddenObjects(bucket, state).remove()


def used_by(bucket: Bucket, state: State) -> frozenset[str]:
    """Return the names that the file uses, or will use."""
    if state["storage"] != _STORAGE:
        return frozenset()
    pieces = [*state["pieces"], *state["superseded"]]
    hidden = HiddenObjects(bucket, state).known_names(pieces)
    return hidden if state["keep_name"] else hidden | {state["name"]}


class GCloudResumableFile(ResumableFile):
    """Holds one chunk in memory, which is filled or sent; one upload at a time holds two."""

    def __init__(self, bucket: Bucket, state: State) -> None:
        super().__init__(state["offset"])
        self._name: str = state["name"]
        if state["storage"] != _STORAGE:
            raise names.no_such_file(self._name)
        self._bucket = bucket
        self._state = state
        self._keep_name: bool = state["keep_name"]
        self._crc32c: int = state["crc32c"]
        self._hidden = HiddenObjects(bucket, state)
        self._object = NewObject(bucket, state["attributes"], state["id"])
        self._pieces = Pieces(self._hidden, state)
        self._new_piece: NewPiece | None = None
        # The name that an interrupted finish() has given to the file.
        self._visible: str | None = None
        with bucket.errors(f"resume {self._name!r}"):
            self._find()

    def _write(self, chunk: bytes) -> None:
        if not chunk:
            return
        if self._visible is not None:
            raise names.no_such_file(self._name)
        with self._bucket.errors(f"write to {self._name!r}"):
            if self._new_piece is None:
                self._new_piece = NewPiece(self._hidden)
            self._new_piece.write(memoryview(chunk))

    def _checkpoint(self) -> State:
        if self._new_piece is None:
            return self._state
        with self._bucket.errors(f"write to {self._name!r}"):
            self._store_piece(self._new_piece)
            self._fold()
        self._pieces.remove_superseded()
        self._state = {
            **self._state,
            "offset": self.offset,
            "crc32c": self._crc32c,
            "pieces": self._pieces.numbers,
            "superseded": [*self._pieces.superseded],
        }
        return self._state

    def _finish(self, is_used: IsUsed | None) -> str:
        with self._bucket.errors(f"store {self._name!r}"):
            name = self._visible or self._store(is_used)
        best_effort("remove the hidden objects of an upload", self._hidden.remove)
        return name

    def _discard(self) -> None:
        with contextlib.ExitStack() as steps:  # the last one first, each even if others fail
            steps.callback(self._object.remove_created)
            steps.callback(self._hidden.remove)
            if self._new_piece is not None:
                steps.callback(self._new_piece.abort)

    def _close(self) -> None:
        if self._new_piece is not None:
            self._new_piece.close()

    def _find(self) -> None:
        """Find the pieces, or else the file that an interrupted ``finish()`` has made of them."""
        found = self._hidden.find()
        self._pieces.find(found)
        is_whole = (self._pieces.size, self._pieces.crc32c) == (self.offset, self._crc32c)
        if MARKER not in found or not is_whole:
            self._visible = self._find_stored(found)
            if self._visible is None:
                raise names.no_such_file(self._name)

    def _find_stored(self, found: Mapping[int, Object]) -> str | None:
        """Return the name under which ``finish()`` has stored the file, if it has; ``found`` are
        the hidden objects."""
        for name in self._hidden.read_notes(found) if self._keep_name else [self._name]:
            if self._is_stored(name):
                return name
        return None

    def _is_stored(self, name: str) -> bool:
        """Whether the object ``name`` is this file. Raises ``FileNotFoundError`` if it is, but was
        finished with other bytes."""
        own = self._object.own(name)
        if own is None:
            return False
        if (size_of(own), own["crc32c"]) != (self.offset, encoded(self._crc32c)):
            raise names.no_such_file(self._name)
        return True

    def _store_piece(self, new_piece: NewPiece) -> None:
        piece = new_piece.finish()
        self._new_piece = None
        self._pieces.append(piece)
        self._crc32c = concatenated(self._crc32c, piece.crc32c, piece.size)

    def _fold(self) -> None:
        try:
            self._pieces.fold()
        except ApiError as error:
            if error.status != 404:
                raise
            self._hidden.find()  # it may be the bucket that is missing
            # Another process has finished or discarded the file.
            raise names.no_such_file(self._name) from error

    def _store(self, is_used: IsUsed | None) -> str:
        if self._new_piece is not None:
            self._store_piece(self._new_piece)
        if self._keep_name:
            return self._claim_name(is_used)
        if not self._create(self._name):
            raise names.no_such_file(self._name)
        return self._name

    def _claim_name(self, is_used: IsUsed | None) -> str:
        found = self._hidden.find()
        stored = self._find_stored(found)
        is_finished = MARKER not in found
        if is_finished and stored is None:
            raise names.no_such_file(self._name)
        claim = names.Claim(self._create, self._give_back, self._object.exists, is_used)
        if stored is not None and (is_finished or claim.keep(stored)):
            return stored
        return claim.first_free(self._name)

    def _create(self, name: str) -> bool:
        """Store the file as ``name``. Return ``False`` if that is taken."""
        if self._keep_name:
            self._hidden.write_note(name)
        try:
            return self._compose(name) is not None
        except GoogleError as error:
            if error.is_transient:
                raise
            if self._is_stored(name):
                return True
            if isinstance(error, ApiError) and error.status == 404:
                raise names.no_such_file(self._name) from error
            raise

    def _compose(self, name: str) -> Object | None:
        if self.offset:
            return self._pieces.compose(self._object, name)
        with contextlib.closing(Buffer(1)) as empty:  # there is nothing to compose
            return self._object.insert(name, empty, self._crc32c)

    def _give_back(self, name: str) -> None:
        # Another process may have finished the file, and returned this very name: that is why it
        # is used.
        if MARKER not in self._hidden.find():
            raise names.no_such_file(self._name)
        self._object.delete(name)

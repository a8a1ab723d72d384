"""The files of a site: the public store, and a store of its own for private files.

What a web server, a bucket's policy or a CDN publishes of the public store cannot include a
private file. Names of private files begin with ``_private/``, which no other name does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from io import FileIO

from kinto_attachment.storage import open_storage
from kinto_attachment.storage.base import (
    FileStorage,
    OnUnreadable,
    StorageUnavailable,
    StoredFile,
)
from kinto_attachment.storage.names import PRIVATE_PREFIX, is_private
from kinto_attachment.storage.options import StorageOptions
from kinto_attachment.storage.resumable import IncompleteUpload, ResumableFile, State
from kinto_attachment.storage.staged import IsUsed, NewFile, StagedFile

_PRIVATE = "private"


def open_files(
    public: StorageOptions, private: StorageOptions | None, base_url: str = ""
) -> Files:
    """Open both stores. See ``open_storage()``."""
    return Files(
        open_storage(public, base_url), None if private is None else open_storage(private)
    )


class Files(FileStorage):
    """Two stores as one: the name of a file says in which of them it is.

    Without a private store, whatever needs one raises ``StorageUnavailable``.
    """

    def __init__(self, public: FileStorage, private: FileStorage | None = None) -> None:
        super().__init__(public.base_url, public.extensions)
        self.public = public
        self.private = private

    @property
    def stores(self) -> dict[str, FileStorage]:
        """The stores, by what the names of their files begin with."""
        private = {} if self.private is None else {PRIVATE_PREFIX: self.private}
        return {"": self.public, **private}

    @staticmethod
    def is_private_state(state: State) -> bool:
        """Whether the unfinished file of ``state`` will be private."""
        return bool(state.get(_PRIVATE))

    @property
    def max_size(self) -> int | None:  # type: ignore[override]
        return self.public.max_size

    @property
    def has_folders(self) -> bool:  # type: ignore[override]
        return self.public.has_folders

    def folds_case(self) -> bool:
        return any(store.folds_case() for store in self.stores.values())

    def refuses(self, name: str) -> str | None:
        if is_private(name) and self.private is None:
            return "is that of a private file, for which there is no store"
        store, inner = self._find(name)
        return store.refuses(inner)

    def check(self) -> None:
        for store in self.stores.values():
            store.check()

    def stage(self, new: NewFile) -> StagedFile:
        if new.exact_name and is_private(new.make_name()):
            inner = new.make_name().removeprefix(PRIVATE_PREFIX)
            new = replace(new, filename=inner, folder="", private=True)
        if not new.private:
            return self.public.stage(new)
        return _PrivateStagedFile(self._private.stage(_uncached(new)))

    def create(self, new: NewFile) -> State:
        if not new.private:
            return self.public.create(new)
        return {**self._private.create(_uncached(new)), _PRIVATE: True}

    def resume(self, state: State) -> ResumableFile:
        if not state.get(_PRIVATE):
            return self.public.resume(state)
        return _PrivateResumableFile(self._private.resume(state))

    def _cancel(self, state: State) -> None:
        (self._private if state.get(_PRIVATE) else self.public).cancel(state)

    def used_by(self, state: State) -> frozenset[str]:
        if not state.get(_PRIVATE):
            return self.public.used_by(state)
        return frozenset(map(_outer, self._private.used_by(state)))

    def incomplete(self) -> Iterator[IncompleteUpload]:
        for prefix, store in self.stores.items():
            for upload in store.incomplete():
                yield replace(upload, name=prefix + upload.name, id=prefix + upload.id)

    def abort(self, upload: IncompleteUpload) -> None:
        store, name = self._find(upload.name)
        prefix = PRIVATE_PREFIX if store is self.private else ""
        store.abort(replace(upload, name=name, id=upload.id.removeprefix(prefix)))

    def _chunks(self, name: str, start: int, stop: int | None) -> Generator[bytes, None, None]:
        store, inner = self._find(name)
        with closing(store.read(inner, start, stop)) as chunks:
            yield b""
            yield from chunks

    def open_on_disk(self, name: str) -> FileIO | None:
        store, inner = self._find(name)
        return store.open_on_disk(inner)

    def stat(self, name: str) -> StoredFile:
        store, inner = self._find(name)
        return replace(store.stat(inner), name=name)

    def presigned_url(
        self,
        name: str,
        expires_in: int,
        content_type: str,
        disposition: str,
        cache_control: str,
    ) -> str | None:
        store, inner = self._find(name)
        return store.presigned_url(inner, expires_in, content_type, disposition, cache_control)

    def plain_url(self, name: str) -> str | None:
        store, inner = self._find(name)
        return store.plain_url(inner)

    def list(
        self, on_unreadable: OnUnreadable | None = None, prefix: str = ""
    ) -> Iterator[StoredFile]:
        for file in self.public.list(on_unreadable, prefix):
            # A stranger in the public store, that no name of a site's file means.
            if not is_private(file.name):
                yield file
        if self.private is None or not (is_private(prefix) or PRIVATE_PREFIX.startswith(prefix)):
            return
        inner_prefix = prefix.removeprefix(PRIVATE_PREFIX) if is_private(prefix) else ""
        for file in self.private.list(_outer_names(on_unreadable), inner_prefix):
            yield replace(file, name=_outer(file.name))

    def delete(self, name: str) -> bool:
        store, inner = self._find(name)
        return store.delete(inner)

    @property
    def _private(self) -> FileStorage:
        if self.private is None:
            raise StorageUnavailable("there is no store for private files in the settings")
        return self.private

    def _find(self, name: str) -> tuple[FileStorage, str]:
        """Return the store of the file, and its name there."""
        if is_private(name):
            return self._private, name.removeprefix(PRIVATE_PREFIX)
        return self.public, name


class _PrivateStagedFile(StagedFile):
    """A file in the private store, under the name that others know."""

    def __init__(self, inner: StagedFile) -> None:
        self._inner = inner

    def _write(self, chunk: bytes) -> None:
        self._inner.write(chunk)

    def _finish(self, is_used: IsUsed | None) -> str:
        return _outer(self._inner.finish(_inner_names(is_used)))

    def _discard(self) -> None:
        self._inner.discard()


class _PrivateResumableFile(ResumableFile):
    """The same for a file that several requests send."""

    def __init__(self, inner: ResumableFile) -> None:
        super().__init__(inner.offset)
        self._inner = inner

    def _write(self, chunk: bytes) -> None:
        self._inner.write(chunk)

    def _checkpoint(self) -> State:
        return {**self._inner.checkpoint(), _PRIVATE: True}

    def _finish(self, is_used: IsUsed | None) -> str:
        return _outer(self._inner.finish(_inner_names(is_used)))

    def _discard(self) -> None:
        self._inner.discard()

    def _close(self) -> None:
        self._inner.close()


def _uncached(new: NewFile) -> NewFile:
    # Should ever a cache fetch it, no matter how.
    return replace(new, cache_control="private, no-cache")


def _outer(name: str) -> str:
    return f"{PRIVATE_PREFIX}{name}"


def _inner_names(is_used: IsUsed | None) -> IsUsed | None:
    return None if is_used is None else lambda name: is_used(_outer(name))


def _outer_names(on_unreadable: OnUnreadable | None) -> OnUnreadable | None:
    return on_unreadable and (lambda name, error: on_unreadable(_outer(name), error))

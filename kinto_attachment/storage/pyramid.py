"""pyramid_storage's own methods: what other plugins call on ``request.attachment``."""

from __future__ import annotations

import abc
import os
import posixpath
from collections.abc import Iterable
from typing import Any, BinaryIO
from urllib.parse import quote

from pyramid_storage.exceptions import FileNotAllowed
from pyramid_storage.extensions import resolve_extensions

from kinto_attachment.storage import media_types
from kinto_attachment.storage.staged import NewFile, StagedFile

_CHUNK_SIZE = 256 * 1024


class PyramidStorage(abc.ABC):
    """pyramid_storage's interface, on top of ``stage()``.

    ``base_url`` is where the files are served; a slash is added unless it is empty.
    ``extensions`` are those that the ``save`` methods accept by default: pyramid_storage's
    notation (``images+txt``), or a collection of lower-case extensions without dots. An empty
    one accepts every file.
    """

    def __init__(self, base_url: str = "", extensions: str | Iterable[str] = "default") -> None:
        self.base_url = base_url if not base_url or base_url.endswith("/") else f"{base_url}/"
        self.extensions = _resolve(extensions)

    @abc.abstractmethod
    def stage(self, new: NewFile) -> StagedFile: ...

    def url(self, name: str) -> str:
        """Return the public URL of the file: ``base_url`` and the name, percent-encoded."""
        return self.base_url + quote(name)

    def filename_allowed(
        self, filename: str, extensions: str | Iterable[str] | None = None
    ) -> bool:
        """Whether the extension of ``filename``, in any case, is one of ``extensions``: the
        storage's own if ``None``, any if empty."""
        return self.extension_allowed(posixpath.splitext(filename)[1], extensions)

    def extension_allowed(self, ext: str, extensions: str | Iterable[str] | None = None) -> bool:
        """The same for an extension, with or without its dot."""
        allowed = self.extensions if extensions is None else _resolve(extensions)
        return not allowed or ext.removeprefix(".").lower() in allowed

    def save(self, fs: Any, *args: Any, **kwargs: Any) -> str:
        """Store the form field ``fs`` (``fs.file``, ``fs.filename``); see ``save_file``."""
        return self.save_file(fs.file, fs.filename, *args, **kwargs)

    def save_filename(self, filename: str, *args: Any, **kwargs: Any) -> str:
        """Store a copy of the local file at the path ``filename``; see ``save_file``."""
        with open(filename, "rb") as file:  # noqa: PTH123 - its errors are the caller's
            return self.save_file(file, filename, *args, **kwargs)

    def save_file(
        self,
        file: BinaryIO,
        filename: str,
        folder: str | None = None,
        randomize: bool = False,
        extensions: str | Iterable[str] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Store the seekable binary ``file``, from its start; return its relative name.

        Its media type is ``headers["Content-Type"]``, or that of its extension. ``options`` are
        other attributes of ``NewFile`` (``acl``).
        Raises ``pyramid_storage.exceptions.FileNotAllowed``; ``TypeError`` for an option that
        the storage does not have; ``StorageUnavailable``.
        """
        if not self.filename_allowed(filename, extensions):
            raise FileNotAllowed()
        content_type = (headers or {}).get("Content-Type") or media_types.guess(filename)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        staged = self.stage(
            NewFile(
                filename,
                folder=folder or "",
                randomize=randomize,
                content_type=content_type,
                size=size,
                **options,
            )
        )
        try:
            while chunk := file.read(_CHUNK_SIZE):
                staged.write(chunk)
            return staged.finish()
        finally:
            staged.discard()


def _resolve(extensions: str | Iterable[str]) -> frozenset[str]:
    return frozenset(resolve_extensions(extensions) if isinstance(extensions, str) else extensions)

"""The transfer of files to another store, under exactly their names.

A file counts as the content that the database says it has, not as its name and size. The database
is asked again before a file is sent and once it has its name: one that was deleted meanwhile does
not come back.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import closing
from typing import NamedTuple

from kinto_attachment.commands.inventory import KnownFile
from kinto_attachment.commands.knowledge import Knowledge, is_content_type, look_up
from kinto_attachment.commands.site import Site
from kinto_attachment.commands.target import Target
from kinto_attachment.storage import FileStorage, NewFile, StorageUnavailable, StoredFile
from kinto_attachment.storage.media_types import guess

# What became of a file: the titles of the counts.
COPIED = "files copied"
TO_COPY = "files to copy"
THERE = "files there already"
ONLY_THERE = "files that only the target has"
DELETED = "files deleted meanwhile"
MISSING = "files missing"
DIFFERENT = "files that differ"
FAILED = "files that failed"
PROBLEMS = {MISSING: "missing", DIFFERENT: "different", FAILED: "failed"}
"""Those that are problems, with a word for machines."""
BYTES = {COPIED: "bytes copied", TO_COPY: "bytes to copy"}
"""Those of which the bytes are counted, with the title of that count."""

_THREADS = 8


class Outcome(NamedTuple):
    """What became of a file; ``sentence`` is for people, where there is something to say."""

    title: str
    name: str
    size: int
    sentence: str = ""
    hash_is_known: bool = True
    """Whether the database knows the SHA-256; otherwise source and target were compared."""


class _Stopped(Exception):
    """The transfer ends early."""


class Transfer:
    """Copies files of a site to ``target``, or with ``dry_run`` finds out which."""

    def __init__(
        self, site: Site, target: Target, *, dry_run: bool, source: FileStorage | None = None
    ) -> None:
        """``source`` has the files, by default the site's own store."""
        self._site = site
        self._source = site.files if source is None else source
        self._target = target.files
        self._settings = target.settings
        self._dry_run = dry_run
        self._stopped = threading.Event()
        first = TO_COPY if dry_run else COPIED
        self.titles = (first, BYTES[first], THERE, ONLY_THERE, DELETED, *PROBLEMS)

    def all(self, files: Iterable[KnownFile]) -> Generator[Outcome, None, None]:
        """Transfer files, several at a time, in constant memory; yield what became of each, as
        they end. Closing the generator stops it.

        Raises Kinto's ``BackendError``.
        """
        running: set[Future[Outcome]] = set()
        threads = ThreadPoolExecutor(_THREADS, "kinto-attachment-copy")
        try:
            for file in files:
                running.add(threads.submit(self._transfer, file))
                if len(running) == 2 * _THREADS:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            yield from (each.result() for each in as_completed(running))
        finally:
            # After an error, the rest of a large file is of no use.
            self._stopped.set()
            threads.shutdown(cancel_futures=True)

    def _transfer(self, file: KnownFile) -> Outcome:
        try:
            try:
                return self._preview(file) if self._dry_run else self._copy(file)
            except FileNotFoundError:
                return self._describe_absent(file)
        except StorageUnavailable as error:
            sentence = f"{file.name} could not be copied: {error}"
            return _outcome(FAILED, file, sentence)

    def _copy(self, file: KnownFile) -> Outcome:
        known = self._look_up(file.name)
        if known is None:
            return _outcome(DELETED, file)
        file = self._measure(file)
        if (there := self._find_there(file.name)) is not None:
            return self._compare(file, known, there)
        try:
            return self._send(file, known)
        except FileExistsError:
            # Another process was faster, or nobody references the file any more.
            if self._look_up(file.name) is None:
                return _outcome(DELETED, file)
            there = self._find_there(file.name)
            return self._compare(file, known, there) if there else _taken(file)

    def _preview(self, file: KnownFile) -> Outcome:
        """Compare names and sizes only."""
        there = self._find_there(file.name)
        if there is None:
            file = self._measure(file)
            sentence = f"{file.name} would be copied ({file.size:,} bytes)"
            return _outcome(TO_COPY, file, sentence)
        if file.size in (None, there.size):
            return _outcome(THERE, file)
        return _taken(file)

    def _describe_absent(self, file: KnownFile) -> Outcome:
        """Return what became of a file that the source does not have, or no more."""
        if self._look_up(file.name) is None:
            return _outcome(DELETED, file)
        if self._target.exists(file.name):
            return _outcome(ONLY_THERE, file)
        return _outcome(MISSING, file, f"{file.name} is missing: neither source nor target has it")

    def _look_up(self, name: str) -> Knowledge | None:
        return look_up(self._site, self._settings, name)

    def _measure(self, file: KnownFile) -> KnownFile:
        """Return the file with its size, also if the source did not list it: its folder may be
        unreadable. Raises ``FileNotFoundError``, ``StorageUnavailable``."""
        if file.size is not None:
            return file
        return KnownFile(file.name, self._source.stat(file.source).size)

    def _find_there(self, name: str) -> StoredFile | None:
        try:
            return self._target.stat(name)
        except FileNotFoundError:
            return None

    def _send(self, file: KnownFile, known: Knowledge) -> Outcome:
        """Copy a file that the target does not have. Raises ``FileExistsError``,
        ``FileNotFoundError``, ``StorageUnavailable``."""
        expected = known.sha256 or self._digest(self._source, file.source)
        folder, _, filename = file.name.rpartition("/")
        staged = self._target.stage(
            NewFile(
                filename,
                folder=folder,
                exact_name=True,
                content_type=known.content_type or self._stored_type(file),
                cache_control=known.settings.cache_control,
                sha256=expected,
                size=file.size,
            )
        )
        try:
            digest = hashlib.sha256()
            for chunk in self._read(self._source, file.source):
                digest.update(chunk)
                staged.write(chunk)
            if digest.hexdigest() != expected:
                sentence = (
                    f"{file.name} is not copied: its SHA-256 is {digest.hexdigest()}, and should"
                    f" be {expected}"
                )
                return _outcome(DIFFERENT, file, sentence)
            staged.finish(is_used=lambda name: self._look_up(name) is None)
        finally:
            staged.discard()
        return _outcome(COPIED, file, known=known)

    def _compare(self, file: KnownFile, known: Knowledge, there: StoredFile) -> Outcome:
        """Look whether the target has the very file."""
        if there.size == file.size:
            expected = known.sha256 or self._digest(self._source, file.source)
            if expected == (there.sha256 or self._digest(self._target, file.name)):
                return _outcome(THERE, file, known=known)
        return _taken(file)

    def _digest(self, files: FileStorage, name: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._read(files, name):
            digest.update(chunk)
        return digest.hexdigest()

    def _read(self, files: FileStorage, name: str) -> Iterator[bytes]:
        with closing(files.read(name)) as chunks:
            for chunk in chunks:
                if self._stopped.is_set():
                    raise _Stopped()
                yield chunk

    def _stored_type(self, file: KnownFile) -> str:
        """Return the media type that the source has, else that of the extension."""
        stored = self._source.stat(file.source).content_type
        return stored if is_content_type(stored) else guess(file.name)


def _outcome(
    title: str, file: KnownFile, sentence: str = "", known: Knowledge | None = None
) -> Outcome:
    hash_is_known = known is None or known.sha256 is not None
    return Outcome(title, file.name, file.size or 0, sentence, hash_is_known)


def _taken(file: KnownFile) -> Outcome:
    sentence = f"{file.name} is taken at the target: what has this name there is another file"
    return _outcome(DIFFERENT, file, sentence)

"""The folder that ``download.py`` writes to: nothing outside of it is ever read or written.

A file is received under a hidden name (``Part``), and gets its own when it is whole. What runs
have to tell each other is in the file ``.last_sync`` (``LastSync``): also what they wrote, since
nothing else is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from errors import Failed
from transfers import CHUNK_BYTES

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

_LAST_SYNC = ".last_sync"
# Beside it: a download that is not whole, the ETag that goes with it, and what it decompresses to.
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.(part|etag|plain)")

# On Windows these are devices in every folder, whatever their extension.
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)
# What makes "exe.gpj" look like "jpg.exe".
_BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")

# In bytes, as file systems count.
_LONGEST_NAME = 255
_LONGEST_EXTENSION = 32
_NOT_IN_NAMES = re.compile(r'[<>:"|?*]' if sys.platform == "win32" else r"(?!)")
_IGNORES_CASE = sys.platform in ("darwin", "win32")

_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')

# A link in the folder is not for us to follow, and a pipe not to wait for.
_CAREFULLY = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


class Folder:
    """The local folder, which is made if it does not exist.

    A context manager, since only one run may use it at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def __enter__(self) -> Folder:
        """Raises ``Failed`` if another run uses the folder, ``OSError`` if there cannot be one."""
        self._path.mkdir(parents=True, exist_ok=True)
        if flock is not None:
            self._lock = os.open(self._path, os.O_RDONLY)
            try:
                flock(self._lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise Failed("another download into the folder is running") from None
            except OSError:
                # A file system that cannot lock is no reason to stop.
                pass
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def is_free(self, name: str) -> bool:
        """Whether nothing of that name is there."""
        return not os.path.lexists(self._path / name)

    def has(self, name: str, sha256: str, size: int) -> bool:
        """Whether there is a file of that name with that content."""
        return self._sha256(name, size) == sha256

    def may_replace(self, name: str, written: Collection[str] | None) -> None:
        """Raises ``Failed`` if what is there has none of these hashes. ``None`` allows all."""
        if written is not None and self._sha256(name) not in written and not self.is_free(name):
            raise Failed(
                "what is there was not written by an earlier run, or was changed since; move it "
                "away, or use --replace"
            )

    def _sha256(self, name: str, size: int | None = None) -> str | None:
        """The hash of a file; ``None`` if there is none, or none of that ``size``."""
        try:
            with self.open(name) as stream:
                if size not in (None, os.fstat(stream.fileno()).st_size):
                    return None
                digest = hashlib.sha256()
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                return digest.hexdigest()
        except OSError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. Raises ``OSError``, also if it is not a regular file."""
        descriptor = os.open(self._path / name, os.O_RDONLY | _CAREFULLY)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(name)
        return os.fdopen(descriptor, "rb")

    def open_own(self, name: str) -> BinaryIO:
        """Open a file of ours for reading and writing, unbuffered; it is made if need be."""
        path = self._path / name
        flags = os.O_RDWR | os.O_CREAT | _CAREFULLY
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            # What has a second name is also somebody else's.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                path.unlink()
                flags |= os.O_EXCL
        return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)

    def rename(self, name: str, new_name: str, written: Collection[str] | None = None) -> None:
        """Give a file another name. It replaces what has it, as far as ``may_replace()`` allows.

        Raises ``Failed`` if it does not.
        """
        path, new_path = self._path / name, self._path / new_name
        if written is not None and self.is_free(new_name):
            # Not over what somebody else makes at this moment, where the file system can do so.
            with contextlib.suppress(OSError):
                os.link(path, new_path)
                path.unlink()
                return
        self.may_replace(new_name, written)
        path.replace(new_path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._path / name).unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what interrupted runs have left."""
        for path in list(self._path.iterdir()):
            if _UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)


class Part:
    """A file that is being received. What an earlier run has left of it is there already.

    ``is_resumed`` tells whether it consists of several pieces; ``received`` is the bytes that came
    in this run.
    """

    def __init__(self, folder: Folder, key: str, kind: str = "part") -> None:
        """``key`` is 32 hexadecimal digits that no other file has."""
        self._folder = folder
        self._name = f".{key}.{kind}"
        self._etag_name = f".{key}.etag"
        self.stream = folder.open_own(self._name)
        self.size = 0
        self.received = 0
        self._digest = hashlib.sha256()
        while chunk := self.stream.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)
        self.is_resumed = self.size > 0

    @property
    def sha256(self) -> str:
        """The hash of what is there by now."""
        return self._digest.hexdigest()

    @property
    def etag(self) -> str | None:
        """The strong ETag of the file that this is a part of, if it has one."""
        with contextlib.suppress(OSError), self._folder.open(self._etag_name) as stream:
            etag = stream.read(1024).decode("ascii", errors="replace")
            return etag if _STRONG_ETAG.fullmatch(etag) else None
        return None

    @etag.setter
    def etag(self, etag: str) -> None:
        self._folder.remove(self._etag_name)
        if _STRONG_ETAG.fullmatch(etag):
            with self._folder.open_own(self._etag_name) as stream:
                _write(stream, etag.encode())

    def append(self, chunk: bytes) -> None:
        self.stream.seek(self.size)
        _write(self.stream, chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        self.received += len(chunk)

    def clear(self) -> None:
        """Start again from nothing."""
        self.stream.truncate(0)
        self.size = 0
        self._digest = hashlib.sha256()
        self.is_resumed = False

    def become(self, name: str, written: Collection[str] | None) -> None:
        """Make the file durable, and give it its name.

        Raises ``Failed`` if something has the name that ``may_replace()`` does not allow.
        """
        os.fsync(self.stream.fileno())
        self.stream.close()
        self._folder.rename(self._name, name, written)
        self._folder.remove(self._etag_name)

    def remove(self) -> None:
        """Leave nothing of it."""
        self.stream.close()
        self._folder.remove(self._name)
        self._folder.remove(self._etag_name)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stream.close()
        if not self.size:
            self._folder.remove(self._name)


class LastSync:
    """What earlier runs have left in ``.last_sync`` about a collection.

    ``timestamp`` is the collection's when all its files were there, ``None`` if they never were.
    ``names`` has the local name of each record's file, ``written`` the hashes of what runs have
    written under a name, or were about to write when they ended.
    """

    def __init__(self, folder: Folder, collection_url: str, user: str) -> None:
        """``user`` is who asks: others may see other records, so they start from nothing."""
        self._folder = folder
        self._url = collection_url
        self._user = user
        self._collections = self._read()
        own = self._collections.pop(collection_url, {})
        self.timestamp = own.get("timestamp") if own.get("user") == user else None
        self.names: dict[str, str] = own.get("names", {})
        self.written: dict[str, list[str]] = own.get("written", {})

    def name_files(self, filenames: Mapping[str, Any], listed: Iterable[str] | None) -> None:
        """Choose a local name for each record's file, from its ``filename``.

        ``listed`` are the records that have changed or are gone, ``None`` if they are all there
        are. The names of the others, and of other collections in the same folder, stay.
        """
        held = self.names
        kept: dict[str, str] = {}
        if listed is not None:
            kept = {record_id: held[record_id] for record_id in held.keys() - set(listed)}
        taken = [*kept.values()]
        for other in self._collections.values():
            taken += other["names"].values()
        self.names = {**kept, **local_names(filenames, held, taken)}

    def announce(self, hashes: Mapping[str, str], replace: bool) -> None:
        """Note that files with these ``hashes`` are going to be written, by their names.

        What no run wrote stays somebody else's, unless it is to ``replace`` it.
        """
        for other in self._collections.values():
            # What another collection has written here, and given up.
            for name in hashes.keys() & other.get("written", {}).keys():
                both = (*self.written.get(name, []), *other["written"][name])
                self.written[name] = list(dict.fromkeys(both))
        for name, sha256 in hashes.items():
            if self._folder.is_free(name):
                self.written[name] = [sha256]
            elif name in self.written or replace:
                others = (each for each in self.written.get(name, []) if each != sha256)
                self.written[name] = [*others, sha256]

    def complete(self, timestamp: str) -> None:
        """All files are there: write that timestamp, and forget what there was before."""
        self.timestamp = timestamp
        self.written = {
            name: hashes[-1:]
            for name, hashes in self.written.items()
            if not self._folder.is_free(name)
        }
        self.save()

    def save(self) -> None:
        """Write it for the next run."""
        own = {
            "user": self._user,
            "timestamp": self.timestamp,
            "names": self.names,
            "written": self.written,
        }
        content = json.dumps({**self._collections, self._url: own}, indent=1, sort_keys=True)
        part = f"{_LAST_SYNC}.new"
        self._folder.remove(part)
        with self._folder.open_own(part) as stream:
            _write(stream, content.encode())
            os.fsync(stream.fileno())
        self._folder.rename(part, _LAST_SYNC)

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is in the file, as far as we can have written it."""
        try:
            with self._folder.open(_LAST_SYNC) as stream:
                content = json.loads(stream.read())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {url: each for url, each in content.items() if _is_entry(each)}


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("names"), dict):
        return False
    timestamp, written = entry.get("timestamp"), entry.get("written", {})
    is_timestamp = timestamp is None or (isinstance(timestamp, str) and timestamp.isdecimal())
    is_written = isinstance(written, dict) and all(isinstance(x, list) for x in written.values())
    has_names = all(isinstance(name, str) for name in entry["names"].values())
    return is_timestamp and is_written and has_names


def local_names(
    filenames: Mapping[str, Any], held: Mapping[str, str], taken: Iterable[str]
) -> dict[str, str]:
    """A local name for each record, all different, and none that is ``taken``.

    A record keeps the name that it ``held`` as long as its filename stays. The others choose in
    the order of their ids, so that it does not matter in which order they come.
    """
    seen = {_as_compared(name) for name in taken}
    names = {}
    newcomers = []
    for record_id, filename in sorted(filenames.items()):
        candidates = _candidates(record_id, filename)
        name = held.get(record_id)
        if name in (next(candidates), next(candidates)) and _as_compared(name) not in seen:
            names[record_id] = name
            seen.add(_as_compared(name))
        else:
            newcomers.append(record_id)
    for record_id in newcomers:
        candidates = _candidates(record_id, filenames[record_id])
        name = next(name for name in candidates if _as_compared(name) not in seen)
        names[record_id] = name
        seen.add(_as_compared(name))
    return names


def safe_name(filename: Any) -> str:
    """``filename`` as a file in the folder can be called; ``""`` if nothing is left of it."""
    if not isinstance(filename, str):
        return ""
    name = _BIDIRECTIONAL.sub("", re.split(r"[/\\]", filename)[-1])
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Zl", "Zp"))
    # Half of a surrogate pair cannot be written.
    name = _NOT_IN_NAMES.sub("_", name.encode(errors="replace").decode()).strip()
    if name in ("", ".", ".."):
        return ""
    # What is hidden is somebody's configuration, or ours.
    if name.startswith(".") or _DEVICE.fullmatch(name):
        name = f"_{name}"
    stem, extension = _split(name)
    return _fitting(stem, extension)


def _candidates(record_id: str, filename: Any) -> Iterator[str]:
    """Names for a file: its own, one with the record's id, and more if both are taken."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", record_id):
        record_id = hashlib.sha256(record_id.encode(errors="replace")).hexdigest()
    name = safe_name(filename) or safe_name(record_id)
    yield name
    stem, extension = _split(name)
    yield _fitting(stem, f"-{record_id}{extension}")
    number = 2
    while True:
        yield _fitting(stem, f"-{record_id}-{number}{extension}")
        number += 1


def _split(name: str) -> tuple[str, str]:
    """What stands before the extension, and the extension with its dot."""
    extension = PurePosixPath(name).suffix
    if len(extension.encode()) > _LONGEST_EXTENSION:
        return name, ""
    return name.removesuffix(extension), extension


def _fitting(stem: str, end: str) -> str:
    """Both together, the first one cut if that is too long for a file system."""
    room = _LONGEST_NAME - len(end.encode())
    return stem.encode()[:room].decode(errors="ignore") + end


def _as_compared(name: str) -> str:
    """What two names have in common if the file system takes one for the other."""
    return unicodedata.normalize("NFC", name).casefold() if _IGNORES_CASE else name


def _write(stream: BinaryIO, content: bytes) -> None:
    """Write all of it: an unbuffered file may take less at once."""
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]

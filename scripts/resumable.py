"""Uploads that go on where they were interrupted, for ``upload.py``: a client of tus 1.0.0
(https://tus.io/protocols/resumable-upload).

Where an upload is, is kept in a small file in ``$XDG_STATE_HOME/kinto-attachment`` (else
``~/.local/state/kinto-attachment``) until it is done: the next run finds it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import requests
from errors import Failed, refusal
from transfers import Transfers

# What is held in memory for each file.
_CHUNK_BYTES = 16 * 1024 * 1024


class Addresses:
    """The URLs of uploads that are not done, by what they are of."""

    def __init__(self) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._folder = Path(state) / "kinto-attachment"

    def get(self, key: str) -> str | None:
        """The URL of an upload that was begun, if there is one."""
        try:
            return self._path(key).read_text() or None
        except OSError:
            return None

    def put(self, key: str, url: str) -> None:
        """Remember it. A folder that cannot be written is no reason to stop."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Whoever has the URL of an anonymous upload may write to it.
            self._path(key).touch(mode=0o600)
            self._path(key).write_text(url)
        except OSError:
            pass

    def drop(self, key: str) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / key


class ResumableUpload:
    """The upload of one file."""

    def __init__(
        self,
        transfers: Transfers,
        endpoint: str,
        stream: BinaryIO,
        headers: dict[str, str],
        metadata: dict[str, str],
        name: str,
    ) -> None:
        """``endpoint`` is the URL of the record's attachment; ``headers`` are its preconditions;
        ``metadata`` is tus's, with the file's ``sha256``; ``name`` is what the user calls it."""
        self._transfers = transfers
        self._addresses = Addresses()
        self._endpoint = endpoint
        self._stream = stream
        self._size = stream.seek(0, os.SEEK_END)
        self._headers = {**headers, "Tus-Resumable": "1.0.0"}
        self._metadata = metadata
        self._name = name
        what = json.dumps([endpoint, headers, metadata], sort_keys=True)
        self._key = hashlib.sha256(what.encode()).hexdigest()

    def send(self, sent: Callable[[int], None]) -> None:
        """Send what the server does not have yet; ``sent`` is told how much it has.

        Raises what a plain upload would, and ``Failed`` if the server wants it elsewhere.
        """
        url, offset = self._transfers.retrying(self._begin, self._name)
        is_known = True

        def chunk() -> None:
            nonlocal offset, is_known
            if not is_known:
                offset = _offset(self._ask("HEAD", url))
            is_known = False
            if offset < self._size:
                offset = self._append(url, offset)
            is_known = True

        sent(offset)
        while offset < self._size:
            self._transfers.retrying(chunk, self._name)
            sent(offset)
        self._addresses.drop(self._key)

    def _begin(self) -> tuple[str, int]:
        """Find the upload that an earlier run has begun, or begin one: its URL and offset."""
        url = self._addresses.get(self._key)
        if url is not None:
            response = self._request("HEAD", url)
            if response.ok:
                return url, _offset(response)
            if response.status_code not in (401, 403, 404, 410):
                raise self._refusal(response)
            # It has expired, or was somebody else's.
            self._addresses.drop(self._key)
        pairs = [
            f"{key} {b64encode(value.encode()).decode()}" for key, value in self._metadata.items()
        ]
        headers = {"Upload-Length": str(self._size), "Upload-Metadata": ",".join(pairs)}
        created = self._ask("POST", self._endpoint, headers)
        url = urljoin(self._endpoint, created.headers.get("Location", ""))
        self._addresses.put(self._key, url)
        return url, 0

    def _append(self, url: str, offset: int) -> int:
        """Send a chunk, and return where the next one begins."""
        self._stream.seek(offset)
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
        }
        return _offset(self._ask("PATCH", url, headers, self._stream.read(_CHUNK_BYTES)))

    def _ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> requests.Response:
        """Raises what a plain upload would if the server refuses."""
        response = self._request(method, url, headers, body)
        if not response.ok:
            raise self._refusal(response)
        return response

    def _request(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> requests.Response:
        """Raises ``Failed`` if ``url``, which the server has chosen, is not below its origin."""
        try:
            return self._transfers.connections.request(
                method, url, headers={**self._headers, **(headers or {})}, data=body
            )
        except Failed:
            self._addresses.drop(self._key)
            raise

    def _refusal(self, response: requests.Response) -> Exception:
        """The same as the script knows it."""
        status = response.status_code
        if status not in (401, 403, 408, 409, 423, 429) and status < 500:
            # It would be refused again.
            self._addresses.drop(self._key)
        if status == 460:
            return Failed("the server has received something else; try again")
        if status == 410:
            return Failed("the upload has expired; try again")
        return refusal(response)


def _offset(response: requests.Response) -> int:
    value = response.headers.get("Upload-Offset", "")
    if not value.isdecimal():
        raise Failed("the server does not say how much of it has arrived")
    return int(value)

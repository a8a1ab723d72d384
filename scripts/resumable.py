"""Uploads that go on where they were interrupted, for ``upload.py``: with tuspy, a client of tus.

Where an upload is, is kept in a small file in ``$XDG_STATE_HOME/kinto-attachment`` (else
``~/.local/state/kinto-attachment``) until it is done: the next run finds it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import requests
from transfers import Failed, Passing, Transfers, refusal
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

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
        self._stream = stream
        self._metadata = metadata
        self._name = name
        what = json.dumps([endpoint, headers, metadata], sort_keys=True)
        self._key = hashlib.sha256(what.encode()).hexdigest()
        authorized = requests.Request("GET", endpoint, auth=transfers.client.session.auth)
        authorization = authorized.prepare().headers.get("Authorization")
        if authorization is not None:
            headers = {**headers, "Authorization": authorization}
        self._client = TusClient(endpoint, headers=headers)

    def send(self, sent: Callable[[int], None]) -> None:
        """Send what the server does not have yet; ``sent`` is told how much it has.

        Raises what a plain upload would, ``Passing`` and ``Failed``.
        """
        uploader = self._transfers.retrying(self._uploader, self._name)
        size = uploader.get_file_size()
        failed = False

        def chunk() -> None:
            nonlocal failed
            try:
                if failed:
                    uploader.offset = uploader.get_offset()
                failed = True
                if uploader.offset < size:
                    uploader.upload_chunk()
                failed = False
            except TusCommunicationError as error:
                raise self._refusal(error) from error

        sent(uploader.offset)
        while uploader.offset < size:
            self._transfers.retrying(chunk, self._name)
            sent(uploader.offset)
        self._addresses.drop(self._key)

    def _uploader(self) -> Any:
        """Find the upload that an earlier run has begun, or begin one."""
        options = {
            "file_stream": self._stream,
            "chunk_size": _CHUNK_BYTES,
            "metadata": self._metadata,
        }
        url = self._addresses.get(self._key)
        if url is not None:
            try:
                return self._client.uploader(url=url, **options)
            except TusCommunicationError as error:
                if error.status_code not in (401, 403, 404, 410):
                    raise self._refusal(error) from error
                # It has expired, or was somebody else's.
                self._addresses.drop(self._key)
        uploader = self._client.uploader(**options)
        try:
            uploader.set_url(uploader.create_url())
        except TusCommunicationError as error:
            raise self._refusal(error) from error
        self._addresses.put(self._key, uploader.url)
        return uploader

    def _refusal(self, error: TusCommunicationError) -> Exception:
        """The same as the script knows it."""
        status = error.status_code
        if status is None:
            return Passing(str(error))
        if status not in (401, 403, 408, 409, 423, 429) and status < 500:
            # It would be refused again.
            self._addresses.drop(self._key)
        if status == 460:
            return Failed("the server has received something else; try again")
        if status == 410:
            return Failed("the upload has expired; try again")
        response = requests.Response()
        response.status_code = status
        response.reason = http.client.responses.get(status, "")
        response._content = error.response_content or b""
        return refusal(response)

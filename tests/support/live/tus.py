"""A client of a live Kinto that speaks tus, one request at a time."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.support.live.client import Answer, Client

_TUS = {"Tus-Resumable": "1.0.0"}
_CONTENT_TYPE = "application/offset+octet-stream"


def create(client: Client, uri: str, size: int) -> Answer:
    """Ask for an upload of ``size`` bytes to a record."""
    headers = {**_TUS, "Upload-Length": str(size), "Upload-Metadata": "filename ZmlsZS50eHQ="}
    return client.request("POST", f"{uri}/attachment", b"", headers)


class Upload:
    """An upload that was created: ``created`` is the answer."""

    def __init__(self, created: Answer) -> None:
        created.raise_for_status()
        # Any node may be asked.
        self._uri = urlsplit(created.headers["Location"]).path.partition("/v1/")[2]

    def patch(self, client: Client, offset: int, content: bytes) -> Answer:
        headers = {**_TUS, "Upload-Offset": str(offset), "Content-Type": _CONTENT_TYPE}
        return client.request("PATCH", self._uri, content, headers)

    def offset(self, client: Client) -> int:
        """What the server says."""
        answer = client.request("HEAD", self._uri, headers=_TUS)
        answer.raise_for_status()
        return int(answer.headers["Upload-Offset"])

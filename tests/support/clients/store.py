"""Where a Kinto puts its files: in a folder, or on S3."""

from __future__ import annotations

from pathlib import Path

from kinto_attachment.attachments.site import MARKER
from tests.support.servers.s3 import S3Server


class Store:
    """Where Kinto puts the files: ``settings`` of the plugin, and a look behind its back."""

    def __init__(self, folder: Path, s3: S3Server | None) -> None:
        self._folder = folder
        self._s3 = s3
        self.settings: dict[str, str | None] = {}
        if s3 is not None:
            self.settings = {
                "base_path": None,
                "aws.bucket": s3.bucket,
                "aws.endpoint_url": s3.endpoint_url,
                "aws.access_key": s3.access_key,
                "aws.secret_key": s3.secret_key,
                "aws.region": s3.region,
                "aws.use_path_style": "true",
            }

    def files(self) -> list[bytes]:
        """The contents of all there is, without the marker of the site."""
        if self._s3 is None:
            paths = [path for path in self._folder.rglob("*") if path.is_file()]
            return [path.read_bytes() for path in paths if path.name != MARKER]
        assert self._s3.uploads() == []
        keys = self._s3.keys()
        objects = [self._s3.admin.get_object(Bucket=self._s3.bucket, Key=key) for key in keys]
        return [each["Body"].read() for each in objects]

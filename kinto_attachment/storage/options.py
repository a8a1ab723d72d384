"""Where files are stored: the options of each provider. Imports none of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LocalOptions:
    """Store files below the folder ``base_path``, an absolute path."""

    base_path: str


@dataclass(frozen=True)
class S3Options:
    """Store files in a bucket of S3, or of a server that speaks S3.

    ``acl`` is a canned ACL; with ``""`` none is sent. Without keys, boto3 looks for credentials
    itself (environment, configuration files, instance role). ``endpoint_url`` is the URL of a
    server other than AWS; ``host``, ``port`` and ``is_secure`` are another way to write it.
    ``num_retries`` is how often a failed request is repeated, ``timeout`` how many seconds a
    connection may take. With ``sign_payload``, the signature of each request covers its content;
    else a CRC32 does where the server compares it.
    """

    bucket: str
    acl: str = "public-read"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint_url: str | None = None
    host: str | None = None
    port: int | None = None
    is_secure: bool = True
    use_path_style: bool = False
    num_retries: int = 1
    timeout: float = 5
    sign_payload: bool = False

    @property
    def endpoint(self) -> str | None:
        """The URL of the server; ``None`` is AWS."""
        if self.endpoint_url or not self.host:
            return self.endpoint_url or None
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self.is_secure else 'http'}://{self.host}{port}"


@dataclass(frozen=True)
class GCloudOptions:
    """Store files in a bucket of Google Cloud Storage.

    ``acl`` is a predefined ACL; with ``""`` none is sent. ``credentials`` is the path of a
    service account's key as JSON; without it, Application Default Credentials are used.
    ``uniform_bucket_level_access``: the bucket has no ACLs. With ``auto_create_bucket``, a missing
    bucket is created, in ``project``, with the predefined ACL ``auto_create_acl``.
    ``endpoint_url`` is the URL of a server other than Google's; it is used without credentials if
    none are given. ``num_retries`` is how often a failed request is repeated, ``timeout`` how many
    seconds a connection may take.
    """

    bucket: str
    acl: str = "publicRead"
    credentials: str | None = None
    project: str | None = None
    auto_create_bucket: bool = False
    auto_create_acl: str = "projectPrivate"
    uniform_bucket_level_access: bool = False
    endpoint_url: str | None = None
    num_retries: int = 1
    timeout: float = 5


StorageOptions = LocalOptions | S3Options | GCloudOptions

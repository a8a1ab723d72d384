"""A service account: its key, the tokens that it is given, and what it signs."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.servers.gcs.answers import Answer
from tests.support.servers.gcs.errors import GcsError, unauthorized
from tests.support.servers.gcs.requests import GcsRequest

_KEY_ID = "0123456789abcdef0123456789abcdef01234567"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# What google-auth writes, whatever the key's token_uri is.
_AUDIENCE = "https://oauth2.googleapis.com/token"
_HOUR = 3600
_LEEWAY = 60
_LONGEST = 7 * 24 * _HOUR


@functools.lru_cache
def _key() -> rsa.RSAPrivateKey:
    # One for all servers of a process: it takes a while.
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class ServiceAccount:
    """The only one that the server knows. ``tokens`` are those that are valid."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.email = f"tests@{project}.iam.gserviceaccount.com"
        self.tokens: set[str] = set()

    def write(self, path: Path, token_uri: str) -> None:
        """Write what Google lets one download."""
        private_key = _key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": _KEY_ID,
            "private_key": private_key.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "token_uri": token_uri,
        }
        path.write_text(json.dumps(account))

    def exchange(self, body: bytes, token_uri: str) -> Answer:
        """Issue an access token for a JWT that the account has signed (RFC 7523)."""
        form = dict(parse_qsl(body.decode("ascii", "replace")))
        if form.get("grant_type") != _GRANT:
            return _refuse("unsupported_grant_type", "Invalid grant_type")
        try:
            header, claims, signature = form.get("assertion", "").split(".")
            head, claim = json.loads(_decode(header)), json.loads(_decode(claims))
            self.verify(_decode(signature), f"{header}.{claims}".encode())
        except (ValueError, InvalidSignature):
            return _refuse("invalid_grant", "Invalid JWT Signature.")
        now = time.time()
        issued, expires = claim.get("iat", 0), claim.get("exp", 0)
        if not (
            head.get("alg") == "RS256"
            and head.get("kid") == _KEY_ID
            and claim.get("iss") == self.email
            and claim.get("aud") in (token_uri, _AUDIENCE)
            and claim.get("scope")
        ):
            return _refuse("invalid_grant", "Invalid JWT: header or claims")
        if not issued - _LEEWAY <= now < expires <= issued + _HOUR:
            return _refuse(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim.",
            )
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.tokens.add(token)
        return Answer.of_json(
            200, {"access_token": token, "expires_in": _HOUR - 1, "token_type": "Bearer"}
        )

    def check_token(self, token: str) -> None:
        """Raise ``GcsError`` (401) unless this is an access token that was issued."""
        if token not in self.tokens:
            raise unauthorized()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises ``InvalidSignature``."""
        _key().public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())

    def check_signed_url(self, request: GcsRequest) -> None:
        """Raise ``GcsError`` unless this is a V4 signed URL of the account, and still valid.

        https://cloud.google.com/storage/docs/authentication/canonical-requests
        """
        query = request.query
        try:
            started = datetime.strptime(f"{query['X-Goog-Date']}+0000", "%Y%m%dT%H%M%SZ%z")
            seconds = int(query["X-Goog-Expires"])
            email, _, scope = query["X-Goog-Credential"].partition("/")
            signature = binascii.unhexlify(query["X-Goog-Signature"])
            signed_headers = query["X-Goog-SignedHeaders"]
        except (KeyError, ValueError):
            raise _malformed() from None
        if not 0 < seconds <= _LONGEST or query.get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256":
            raise _malformed()
        date, *rest = scope.split("/")
        if date != f"{started:%Y%m%d}" or rest[1:] != ["storage", "goog4_request"]:
            raise _malformed()
        canonical = "\n".join(
            [
                request.method,
                request.path,
                _canonical_query(request),
                *(
                    f"{name}:{_one_line(request.headers, name)}"
                    for name in signed_headers.split(";")
                ),
                "",
                signed_headers,
                request.headers.get("X-Goog-Content-SHA256", "UNSIGNED-PAYLOAD"),
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        message = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, digest])
        try:
            if email != self.email or "host" not in signed_headers.split(";"):
                raise InvalidSignature
            self.verify(signature, message.encode())
        except InvalidSignature:
            raise GcsError(
                403,
                "forbidden",
                "Access denied. The request signature we calculated does not match the "
                "signature you provided. Check your Google secret key and signing method.",
                code="SignatureDoesNotMatch",
            ) from None
        now = datetime.now(timezone.utc)
        if now >= started + timedelta(seconds=seconds):
            raise GcsError(400, "invalid", "The provided token has expired.", code="ExpiredToken")
        if started > now + timedelta(minutes=15):
            raise GcsError(403, "forbidden", "Request is not yet valid.", code="AccessDenied")


def _canonical_query(request: GcsRequest) -> str:
    pairs = sorted(
        (quote(key, safe="~"), quote(value, safe="~"))
        for key, value in request.pairs
        if key != "X-Goog-Signature"
    )
    return "&".join(f"{key}={value}" for key, value in pairs)


def _one_line(headers: Mapping[str, str], name: str) -> str:
    return " ".join(headers.get(name, "").split())


def _decode(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def _refuse(error: str, description: str) -> Answer:
    return Answer.of_json(400, {"error": error, "error_description": description})


def _malformed() -> GcsError:
    return GcsError(
        400,
        "invalid",
        "The query parameters of the signed URL are malformed.",
        code="AuthorizationQueryParametersError",
    )

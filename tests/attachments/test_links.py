"""Signed links, without a server: what is signed, and what is accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta

import pytest

from kinto_attachment.attachments.links import Link, Target, sign, verify

HOUR = timedelta(hours=1)
NOW = 1_800_000_000
EXPIRES = NOW + 60
DIGEST = hashlib.sha256(b"content").hexdigest()
TARGET = Target("_private/b/5a4f0c00-63ea-4d3b-8f0a-6a9b3f1f1a57.txt", DIGEST)


def accepted(token, *, secrets=("secret",), target=TARGET, now=NOW, lifetime=HOUR):
    return verify(token, secrets, target, now, lifetime)


def test_a_token_is_what_is_documented():
    """Computed here with nothing of the plugin's, as another implementation would do it."""
    fields = ["1", "kinto-attachment: link", TARGET.name, DIGEST, str(EXPIRES), "v"]
    message = b"".join(len(each).to_bytes(8, "big") + each.encode() for each in fields)
    key = hmac.new(b"secret", b"kinto-attachment: key of links", hashlib.sha256).digest()
    mac = base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha256).digest())

    token = sign("secret", TARGET, Link(EXPIRES, save=False))

    assert token == f"{EXPIRES}.v.{mac.decode().rstrip('=')}"


def test_tokens_stay_the_same_from_one_version_to_the_next():
    """Links that were given out, and nodes that run another version, go on."""
    target = Target("_private/a.txt", "0" * 64)

    assert sign("secret", target, Link(1_800_000_000, save=True)) == (
        "1800000000.d.hi2rX2aIMkzclreLr5At2m8JYV6WHVO2wM2yVhqL7E4"
    )


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("target", [TARGET, Target("é.txt", DIGEST), Target("a", "")])
def test_what_is_signed_is_accepted(save, target):
    link = Link(EXPIRES, save)

    assert accepted(sign("secret", target, link), target=target) == link


@pytest.mark.parametrize(
    ("expires", "valid"),
    [
        (NOW - 1, False),
        (NOW, False),
        (NOW + 1, True),
        (NOW + 3600, True),
        (NOW + 3660, True),
        (NOW + 3661, False),
    ],
)
def test_it_is_valid_until_it_expires_but_for_no_longer_than_the_settings_say(expires, valid):
    token = sign("secret", TARGET, Link(expires, save=False))

    assert bool(accepted(token)) == valid


@pytest.mark.parametrize(
    "target",
    [
        Target(TARGET.name, ""),
        Target(TARGET.name, "0" * 64),
        Target(TARGET.name.removeprefix("_private/"), DIGEST),
        Target(f"{TARGET.name}{DIGEST[0]}", DIGEST[1:]),
    ],
)
def test_it_is_bound_to_one_name_and_one_content(target):
    assert accepted(sign("secret", TARGET, Link(EXPIRES, save=False)), target=target) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda expires, flag, mac: f"{int(expires) + 1}.{flag}.{mac}",
        lambda expires, flag, mac: f"0{expires}.{flag}.{mac}",
        lambda expires, flag, mac: f"{expires}.d.{mac}",
        lambda expires, flag, mac: f"{expires}.x.{mac}",
        lambda expires, flag, mac: f"{expires}.{flag}.{mac[:-1]}",
        lambda expires, flag, mac: f"{expires}.{flag}.{mac}=",
        lambda expires, flag, mac: f"{expires}.{flag}.{mac[:-1]}{'AB'[mac[-1] == 'A']}",
        lambda expires, flag, mac: f"{expires}.{flag}.{mac}\n",
        lambda expires, flag, mac: f"{'9' * 5000}.{flag}.{mac}",
        lambda expires, flag, mac: f"\u0661{expires[1:]}.{flag}.{mac}",
        lambda expires, flag, mac: f"{expires}.{flag}.{'é' * 43}",
        lambda expires, flag, mac: f"{expires}.{flag}",
        lambda expires, flag, mac: "",
    ],
)
def test_a_changed_one_is_not(change):
    token = sign("secret", TARGET, Link(EXPIRES, save=False))

    assert accepted(change(*token.split("."))) is None


def test_a_secret_that_is_about_to_go_is_still_accepted():
    token = sign("old", TARGET, Link(EXPIRES, save=False))

    assert accepted(token, secrets=("new", "old"))
    assert accepted(token, secrets=("new",)) is None
    assert accepted(token, secrets=()) is None

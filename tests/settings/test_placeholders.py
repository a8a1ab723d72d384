"""A secret that an example has, and nobody has changed, stops the server."""

from __future__ import annotations

import pytest
from pyramid.exceptions import ConfigurationError

from tests.settings.test_settings import read
from tests.support.documents import CHECKOUT

SECRETS = (
    "kinto.userid_hmac_secret",
    "kinto.default_bucket_hmac_secret",
    "kinto.attachment.download.secret",
    "kinto.attachment.download.former_secret",
    "kinto.attachment.aws.access_key",
    "kinto.attachment.aws.secret_key",
)
URLS = ("kinto.storage_url", "kinto.permission_url", "kinto.cache_url")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", ["change-me", "CHANGEME", "please_change_me"])
def test_a_placeholder_is_refused_by_the_name_of_its_setting(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name} has a placeholder") as stop:
        read({name: value})

    assert "openssl rand -hex 32" in str(stop.value)


@pytest.mark.parametrize("name", URLS)
def test_a_password_of_the_database_is_refused_and_not_shown(name):
    with pytest.raises(ConfigurationError, match=f"^{name} has a placeholder") as stop:
        read({name: "postgresql://kinto:change-me@db.example.org/kinto"})

    assert "db.example.org" not in str(stop.value)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_key_of_the_environment_is_refused(name, monkeypatch):
    monkeypatch.setenv(name, "change-me")

    with pytest.raises(ConfigurationError, match=f"^{name} has a placeholder"):
        read()


def test_other_values_are_taken():
    secrets = dict.fromkeys(SECRETS[:4], "it may change often") | {SECRETS[2]: "20241126"}
    urls = dict.fromkeys(URLS, "postgresql://change-me@/change-me?host=/run/postgresql")

    assert read(secrets | urls).download.secrets[0] == "20241126"


def test_the_settings_for_development_are_taken():
    lines = (CHECKOUT / "config/development.ini").read_text().splitlines()
    settings = dict(line.split(" = ") for line in lines if line.startswith("kinto.userid"))

    assert read(settings).download.secrets == ("not a secret",)

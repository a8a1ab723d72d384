"""The settings of an ini file, and Kinto's storage backend in it, without a server."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kinto.core.initialization import load_default_settings
from pyramid.config import Configurator
from pyramid.paster import get_appsettings

from kinto_attachment.commands.site import Refused
from kinto_attachment.database.scan import errors

_DEFAULTS = {
    "storage_backend": "kinto.core.storage.memory",
    "storage_url": "",
    "storage_max_fetch_size": 10_000,
    "transaction_per_request": True,
}


@contextmanager
def starting(ini: str) -> Iterator[None]:
    """Raise ``Refused``, or Kinto's ``BackendError``, in place of what a wrong ini file raises:
    when it is read, or its application starts."""
    try:
        with errors():
            yield
    except configparser.InterpolationError as error:
        # Its own words quote the value, which may have a password.
        raise Refused(
            f"{ini}: {error.option} has a % that begins no placeholder: write %% for %."
        ) from None
    except (configparser.Error, ImportError, LookupError, ValueError) as error:
        raise Refused(f"{ini}: {error}") from error


def read_ini(ini: str) -> Any:
    """Return Pyramid's configuration with the settings that Kinto would read, environment
    variables included.

    Raises ``OSError``, ``LookupError``, ``ValueError`` and ``configparser.Error``.
    """
    settings = {**get_appsettings(ini), "settings_prefix": "kinto"}
    config = Configurator(settings=settings)
    load_default_settings(config, _DEFAULTS)
    return config


def open_kinto_storage(config: Any) -> Any:
    """Return Kinto's storage backend. Raises ``ImportError``, and Kinto's ``BackendError``."""
    backend = config.maybe_dotted(config.get_settings()["storage_backend"])
    with errors():
        return backend.load_from_config(config)

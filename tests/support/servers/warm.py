"""Start Kinto once, in the process that others are forked from (forked.py): what it imports,
compiles and remembers as it starts for the first time takes twice as long as the rest."""

from __future__ import annotations

import gc
import tempfile
import warnings

import kinto
import pytest
from kinto.core.cornice.service import SERVICES

from tests.support.starts import make_starts_quick

make_starts_quick(pytest.MonkeyPatch())
with tempfile.TemporaryDirectory(prefix="test-warm-") as files, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    services = [*SERVICES]
    kinto.main(
        {},
        config=None,
        **{
            "kinto.includes": "kinto.plugins.default_bucket kinto_attachment",
            "kinto.attachment.base_path": files,
            "kinto.userid_hmac_secret": "of the tests",
        },
    )
    # Kinto lists the services of all applications of a process: this one is gone.
    SERVICES[:] = services
gc.collect()
# The collector writes to what it looks at, and what is written is no longer shared with a fork.
gc.freeze()

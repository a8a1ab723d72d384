"""Failed assertions of the machinery tell what they compared."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.model.days", "tests.model.expected", "tests.model.site")

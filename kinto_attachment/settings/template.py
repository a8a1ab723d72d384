"""A text with placeholders, for the settings that name folders and files.

Unlike ``str.format``, it has no attributes, indexes or conversions that a typo or a value could
reach.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class Template:
    """``Template("{bucket_id}/files", ["bucket_id"]).fill(bucket_id="b") == "b/files"``.

    Raises ``ValueError`` if ``text`` has a brace that is not part of one of ``placeholders``.
    """

    def __init__(self, text: str, placeholders: Sequence[str]) -> None:
        self.text = text
        # re.split() alternates the text between the placeholders with their names.
        self._parts = _PLACEHOLDER.split(text)
        known = set(placeholders)
        literals, names = self._parts[::2], self._parts[1::2]
        if not set(names) <= known or any("{" in part or "}" in part for part in literals):
            words = ", ".join(f"{{{name}}}" for name in placeholders)
            raise ValueError(f"should have no braces but those of {words}")

    @property
    def literal(self) -> str:
        """The text with a harmless letter in place of each placeholder."""
        return _PLACEHOLDER.sub("x", self.text)

    def fill(self, **values: str) -> str:
        """Replace each placeholder by its value; a brace in a value stays."""
        return "".join(
            values[part] if index % 2 else part for index, part in enumerate(self._parts)
        )

    def regex(self, **values: str) -> str:
        """Return a regular expression for what ``fill()`` may make of values that match these."""
        return "".join(
            values[part] if index % 2 else re.escape(part)
            for index, part in enumerate(self._parts)
        )

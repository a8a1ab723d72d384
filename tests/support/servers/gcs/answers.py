"""What the server answers, before it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """Status, headers and body; ``pieces`` and ``size`` are those of a body that is not read
    into memory."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: Iterator[bytes] | None = None
    size: int | None = None

    @classmethod
    def of_json(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        body = json.dumps(value).encode()
        return cls(
            status, {"Content-Type": "application/json; charset=UTF-8", **(headers or {})}, body
        )

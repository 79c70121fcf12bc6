"""What the tour makes of an answer: the client knows its type only as one of several."""

import base64
from typing import TypeVar

Answer = TypeVar("Answer")

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
"""A PNG picture of one pixel."""


def expect(kind: type[Answer], answer: object) -> Answer:
    """The answer, as what the contract says that it is."""
    assert isinstance(answer, kind), answer
    return answer
